// A projection as its file has it: what decoders' and encoders' weights look like to the code that loads them. Owns
// nothing; any thread.
#pragma once

#include <optional>

#include "model/spec.h"

namespace cortex {

struct LinearView {
  LinearView(const Weight& matrix) : weight(&matrix) {}
  LinearView(const Weight& matrix, const std::optional<Weight>& vector)
      : weight(&matrix), bias(vector ? &*vector : nullptr) {}
  LinearView(const Linear& linear) : LinearView(linear.weight, linear.bias) {}

  const Weight* weight;          // [out, in]
  const Weight* bias = nullptr;  // [out], or none
};

}  // namespace cortex

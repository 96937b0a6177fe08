// What config.json says of quantised safetensors: MLX's affine groups, of one format for the model and others for the
// layers it names. Plain values; any thread.
// Source: github.com/ml-explore/mlx-lm, the "quantization" of config.json.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "model/fields.h"

namespace cortex {

struct AffineFormat {
  int bits = 0;            // 2, 3, 4, 5, 6 or 8
  int group_elements = 0;  // 32, 64 or 128

  bool operator==(const AffineFormat&) const = default;
};

struct Quantisation {
  std::optional<AffineFormat> standard;  // absent: a model of floats
  // By layer, the name of its tensors without ".weight"; absent: floats.
  std::map<std::string, std::optional<AffineFormat>, std::less<>> exceptions;

  // Of a layer that has scales; one that has none is of floats in any model.
  std::optional<AffineFormat> format_of(std::string_view layer) const;
};

// "quantization", or where it is absent its twin "quantization_config". Throws Error invalid_config, which names what
// is not supported: another mode, or another quantiser's method.
Quantisation read_quantisation(const Fields& config);

}  // namespace cortex

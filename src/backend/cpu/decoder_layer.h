// What a decoder's layer is made of, read or laid out on the loading thread; owned by the decoder.
#pragma once

#include <variant>

#include "backend/cpu/experts.h"
#include "backend/cpu/feed_forward.h"
#include "backend/cpu/self_attention.h"
#include "backend/cpu/weight_loader.h"

namespace cortex {

struct DecoderLayer {
  // A branch off the stream of rows: x + after(f(before(x))); a norm that is not there is empty.
  struct Norms {
    Vector before, after;
  };

  DecoderLayer(const DecoderSpec& spec, bool with_experts, const DecoderLayerWeights& weights, WeightLoader& loader,
               Arithmetic arithmetic);

  Norms attention_norms, mlp_norms;
  AttentionWeights attention;
  std::variant<CpuFeedForward, CpuExperts> mlp;
};

}  // namespace cortex

// What an encoder is made of, read or laid out on the loading thread; owned by the encoder.
#pragma once

#include <optional>
#include <vector>

#include "backend/cpu/feed_forward.h"
#include "backend/cpu/kv_pool.h"
#include "backend/cpu/projection.h"
#include "backend/cpu/weight_loader.h"
#include "backend/holding.h"

namespace cortex {

struct EncoderParts {
  struct Norm {
    Vector weight, bias;  // a bias of zeros where the file has none
  };
  struct Layer {
    std::optional<Norm> attention_norm;
    Projection query_key_value, output;
    Norm mlp_norm;
    CpuFeedForward mlp;
  };
  struct Head {
    std::optional<Projection> dense;
    std::optional<Norm> norm;
    Projection out;
  };

  // The loader's floats are those of layers.
  EncoderParts(const EncoderSpec& spec, const EncoderWeights& weights, WeightLoader& loader, WeightPrecision precision,
               Arithmetic arithmetic);

  PackedMatrix token_embedding, position_embedding, type_embedding;  // empty where there are none
  Norm embedding_norm;
  std::vector<Layer> layers;
  std::optional<Norm> final_norm;
  std::optional<Head> head;
};

// What keys and values are kept in while a layer is computed; absent where they stay as they are.
std::optional<KvPrecision> encoder_kv_precision(const EncoderSpec& spec, Arithmetic arithmetic);

}  // namespace cortex

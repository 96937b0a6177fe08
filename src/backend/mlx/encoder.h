// An encoder composed of MLX operations: all texts pass the linears as one matrix [T, hidden], attention goes text by
// text. Made on a loader thread, used by the engine thread.
#pragma once

#include <vector>

#include "backend/backend.h"
#include "backend/mlx/layers.h"

namespace cortex {

class MlxEncoder final : public EncoderBackend {
 public:
  MlxEncoder(const EncoderSpec& spec, const EncoderWeights& weights, const LoadProgress& progress);

  void encode(const PackedTexts& texts, EncodeResult* result) override;
  std::size_t memory_bytes() const override { return weight_bytes_; }

 private:
  struct Norm {
    explicit Norm(const LayerNorm& weights);
    mx::array weight, bias;  // [hidden]
  };
  struct Layer {
    explicit Layer(const EncoderLayerWeights& weights);
    std::size_t bytes() const;
    MlxLinear query_key_value, output, up, down;
    Norm attention_norm, mlp_norm;
  };

  mx::array normalised(const mx::array& x, const Norm& norm) const;
  mx::array embed(const PackedTexts& texts) const;
  mx::array attention(const Layer& layer, const mx::array& x, std::span<const std::int32_t> starts) const;
  mx::array body(const PackedTexts& texts) const;  // [T, hidden]

  EncoderSpec spec_;
  mx::array token_embedding_, position_embedding_, type_embedding_;
  Norm embedding_norm_;
  std::vector<Layer> layers_;
  std::size_t weight_bytes_ = 0;
};

}  // namespace cortex

// An encoder composed of MLX operations: all texts pass the linears as one matrix [T, hidden], attention goes text by
// text. Made on a loader thread, used by the engine thread.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "backend/mlx/device_memory.h"
#include "backend/mlx/feed_forward.h"
#include "backend/mlx/layers.h"
#include "backend/mlx/rotary.h"

namespace cortex {

class MlxEncoder final : public EncoderBackend {
 public:
  MlxEncoder(const EncoderSpec& spec, const EncoderWeights& weights, const LoadProgress& progress);

  void encode(const PackedTexts& texts, EncodeResult* result) override;
  std::size_t memory_bytes() const override { return weight_bytes_; }
  std::size_t device_bytes() const override { return mlx_device_bytes(); }
  void trim() override { trim_mlx(); }

 private:
  struct Layer {
    Layer(const EncoderSpec& spec, const EncoderLayerWeights& weights);
    std::size_t bytes() const;
    std::optional<MlxLayerNorm> attention_norm;
    MlxLinear query_key_value, output;
    MlxLayerNorm mlp_norm;
    MlxFeedForward mlp;
  };
  struct Head {
    Head(const EncoderSpec& spec, const EncoderHeadWeights& weights);
    std::size_t bytes() const;
    std::optional<MlxLinear> dense;
    std::optional<MlxLayerNorm> norm;
    MlxLinear out;
  };
  // Some rows of one text, which attend to some of its rows.
  struct Tile {
    int begin = 0, end = 0;            // rows
    int keys_begin = 0, keys_end = 0;  // rows too
    std::optional<mx::array> mask;     // [end - begin, keys_end - keys_begin]; without it all are seen
  };
  // What layers of one kind share.
  struct RowLayout {
    std::optional<RotaryRows> rotary;
    std::vector<Tile> tiles;
  };
  using Layouts = std::map<int, RowLayout>;  // by reach

  static std::vector<Tile> tiles_of(std::span<const std::int32_t> starts, int reach_tokens);
  Layouts lay_out(std::span<const std::int32_t> starts, std::span<const std::int32_t> positions) const;
  mx::array embed(const PackedTexts& texts, std::span<const std::int32_t> positions) const;
  mx::array attention(const Layer& layer, const mx::array& x, const RowLayout& layout) const;
  mx::array body(const PackedTexts& texts) const;  // [T, hidden]
  // Of a classifier: pooled [N, hidden] to [N, labels].
  std::vector<float> classify(const std::vector<float>& pooled) const;

  const TrimsMlxAtEnd trims_;
  EncoderSpec spec_;
  mx::array token_embedding_;
  std::optional<mx::array> position_embedding_, type_embedding_;
  MlxLayerNorm embedding_norm_;
  std::vector<Layer> layers_;
  std::optional<MlxLayerNorm> final_norm_;
  std::optional<Head> head_;
  std::size_t weight_bytes_ = 0;
};

}  // namespace cortex

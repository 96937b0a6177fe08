// An encoder on the processor: packed texts pass each layer together, each text attends to itself. float32
// throughout; a text's result is the same bits whatever is packed beside it. Owned by the engine, called by its thread;
// the team is shared between the models of the backend.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/attention.h"
#include "backend/cpu/feed_forward.h"
#include "backend/cpu/projection.h"
#include "backend/cpu/rotary_table.h"
#include "backend/cpu/thread_team.h"
#include "backend/cpu/weight_matrix.h"

namespace cortex {

class CpuEncoder : public EncoderBackend {
 public:
  CpuEncoder(const EncoderSpec& spec, const EncoderWeights& weights, const LoadProgress& progress,
             std::shared_ptr<ThreadTeam> team);

  void encode(const PackedTexts& texts, EncodeResult* result) override;
  std::size_t memory_bytes() const override;

 private:
  struct Norm {
    WeightMatrix weight, bias;  // a bias of zeros where the file has none
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
  struct Row {
    int begin = 0, end = 0;  // of its text
  };

  static Norm read_norm(const LayerNorm& norm, WeightReader& reader);
  static std::optional<Norm> read_norm(const std::optional<LayerNorm>& norm, WeightReader& reader);
  Layer read_layer(const EncoderLayerWeights& weights, WeightReader& reader) const;
  static Head read_head(const EncoderHeadWeights& weights, WeightReader& reader);
  void lay_out(const PackedTexts& texts);
  void embed(const PackedTexts& texts);
  void attention(int layer, const std::vector<float>& in);  // to update_
  void turn_rows(bool windowed);
  void attend_rows(const EncoderLayerSpec& layer);
  void attend_row(int row, int begin, int end, AttentionScratch& scratch);
  // stream = norm(stream + update)
  void add_and_normalise(const Norm& norm);
  void add_to_stream();  // update_
  // out = norm(in), row by row; they may be the same.
  void normalise(const Norm& norm, const std::vector<float>& in, std::vector<float>& out);
  void pool(const PackedTexts& texts, std::vector<float>& pooled) const;
  // Of a classifier: pooled [N, hidden] to [N, labels].
  std::vector<float> classify(std::vector<float> pooled);

  const EncoderSpec spec_;
  const std::shared_ptr<ThreadTeam> team_;
  WeightMatrix token_embedding_, position_embedding_, type_embedding_;  // empty where there are none
  Norm embedding_norm_;
  std::vector<Layer> layers_;
  std::optional<Norm> final_norm_;
  std::optional<Head> head_;
  std::size_t weight_bytes_ = 0;

  // The texts at hand; buffers keep their capacity from call to call.
  std::vector<Row> rows_;  // [T]
  RotaryTable rotary_;
  std::optional<RotaryTable> window_rotary_;  // of sliding-window layers, where it is another
  std::vector<float> stream_;                 // [T, hidden]
  std::vector<float> normed_;                 // [T, hidden]
  std::vector<float> update_;                 // [T, hidden]
  LayerBuffers buffers_;
  std::vector<AttentionScratch> scratch_;  // one a thread
};

}  // namespace cortex

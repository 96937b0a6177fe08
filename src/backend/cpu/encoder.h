// A BERT-like encoder on the processor: packed texts pass each layer together, each text attends to itself. float32
// throughout; a text's result is the same bits whatever is packed beside it. Owned by the engine, called by its thread;
// the team is shared between the models of the backend.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/attention.h"
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
    WeightMatrix weight, bias;
  };
  struct Layer {
    WeightMatrix query_key_value, query_key_value_bias;  // rows of query, key and value below one another
    WeightMatrix output, output_bias;
    Norm attention_norm;
    WeightMatrix up, up_bias;
    WeightMatrix down, down_bias;
    Norm mlp_norm;
  };

  static Norm read_norm(const LayerNorm& norm, WeightReader& reader);
  static Layer read_layer(const EncoderLayerWeights& weights, WeightReader& reader);
  void embed(const PackedTexts& texts);
  void attend_rows(const PackedTexts& texts);
  void attend_row(int row, int begin, int end, AttentionScratch& scratch);
  // stream = norm(stream + update)
  void add_and_normalise(const Norm& norm);
  void pool(const PackedTexts& texts, std::vector<float>& pooled) const;

  const EncoderSpec spec_;
  const std::shared_ptr<ThreadTeam> team_;
  WeightMatrix token_embedding_, position_embedding_, type_embedding_;
  Norm embedding_norm_;
  std::vector<Layer> layers_;
  std::size_t weight_bytes_ = 0;

  // The texts at hand; buffers keep their capacity from call to call.
  std::vector<int> text_of_row_;           // [T]
  std::vector<float> stream_;              // [T, hidden]
  std::vector<float> projected_;           // [T, 3 * heads * head_dim] or [T, intermediate]
  std::vector<float> mixed_;               // [T, heads * head_dim]
  std::vector<float> update_;              // [T, hidden]
  std::vector<AttentionScratch> scratch_;  // one a thread
};

}  // namespace cortex

// A decoder on the processor: every row of every slice of a step passes each layer together, so that weights are read
// once a step. float32 throughout. A row's result is the same bits whatever rides beside it, however its prompt was cut
// and however many threads work (kernels.h, attention.h). Owned by the engine, called by its thread; the team is
// shared between the models of the backend.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/attention.h"
#include "backend/cpu/kv_pool.h"
#include "backend/cpu/thread_team.h"
#include "backend/cpu/weight_matrix.h"

namespace cortex {

class CpuDecoder : public DecoderBackend {
 public:
  CpuDecoder(const DecoderSpec& spec, const DecoderWeights& weights, const LoadProgress& progress,
             std::shared_ptr<ThreadTeam> team);

  KvGeometry kv_geometry() const override { return kv_.geometry(); }
  void reserve_kv(int blocks) override { kv_.reserve(blocks); }
  void submit(const StepPlan& plan) override;
  void collect(StepResult* result) override;
  void read_blocks(std::span<const BlockId> blocks, std::span<std::byte> out) override { kv_.read(blocks, out); }
  void write_blocks(std::span<const BlockId> blocks, std::span<const std::byte> bytes) override {
    kv_.write(blocks, bytes);
  }
  void discard(std::span<const BlockId> blocks) override { kv_.discard(blocks); }
  std::size_t memory_bytes() const override;

 private:
  struct Layer {
    WeightMatrix attention_norm, mlp_norm;
    WeightMatrix query_key_value;  // rows of query, key and value below one another
    WeightMatrix output;
    WeightMatrix gate_up;
    WeightMatrix down;
    WeightMatrix query_key_value_bias, output_bias, gate_up_bias, down_bias;  // empty without
  };
  struct Row {
    const BlockId* blocks = nullptr;
    int position = 0;
  };

  Layer read_layer(const DecoderLayerWeights& weights, WeightReader& reader) const;
  void lay_out(const StepPlan& plan);
  void embed(const std::vector<TokenId>& tokens);
  void attention_block(int layer);
  void place_keys_values(int layer, int begin, int end);
  void attend_rows(int layer);
  void attend_row(int layer, int row, int kv_head, AttentionScratch& scratch);
  void feed_forward_block(int layer);
  void normalise_rows(const WeightMatrix& norm);
  void add_to_stream(const std::vector<float>& terms);
  void finish(const StepPlan& plan);
  void finish_rows(const StepPlan& plan, std::size_t begin, std::size_t end, std::vector<RowResult>& results);

  const DecoderSpec spec_;
  const std::shared_ptr<ThreadTeam> team_;
  WeightMatrix embedding_;  // [vocabulary, hidden]
  std::vector<Layer> layers_;
  WeightMatrix final_norm_;
  WeightMatrix head_;  // empty when tied
  std::size_t weight_bytes_ = 0;
  const std::vector<float> inverse_frequencies_;  // [rope.dims / 2]
  KvPool kv_;

  // The step at hand; buffers keep their capacity from step to step.
  std::vector<Row> rows_;                  // [T]
  std::vector<float> cosines_, sines_;     // [T, rope.dims / 2]
  std::vector<float> stream_;              // [T, hidden]: what the layers add to
  std::vector<float> normed_;              // [T, hidden]
  std::vector<float> projected_;           // [T, widest projection]
  std::vector<float> mixed_;               // [T, heads * head_dim] or [T, intermediate]
  std::vector<float> update_;              // [T, hidden]
  std::vector<float> logits_;              // [some wanted rows, vocabulary]
  std::vector<AttentionScratch> scratch_;  // one a thread
  std::optional<StepResult> result_;       // submitted, not collected
  std::vector<RowResult> last_step_;       // tokens only
};

}  // namespace cortex

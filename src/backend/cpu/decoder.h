// A decoder on the processor: every row of every slice of a step passes each layer together, so that weights are read
// once a step. float32 throughout. A row's result is the same bits whatever rides beside it, however its prompt was cut
// and however many threads work (kernels.h, attention.h). Owned by the engine, called by its thread; the team is
// shared between the models of the backend.
#pragma once

#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/attention.h"
#include "backend/cpu/experts.h"
#include "backend/cpu/feed_forward.h"
#include "backend/cpu/kv_pool.h"
#include "backend/cpu/projection.h"
#include "backend/cpu/rotary_table.h"
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
  // A branch off the stream of rows: x + after(f(before(x))); a norm that is not there is empty.
  struct Norms {
    WeightMatrix before, after;
  };
  struct Layer {
    Norms attention_norms, mlp_norms;
    Projection query_key_value, output;
    WeightMatrix query_norm, key_norm;  // empty without
    std::variant<CpuFeedForward, CpuExperts> mlp;
  };
  struct Row {
    const BlockId* blocks = nullptr;
    int position = 0;
  };

  Layer read_layer(int layer, const DecoderLayerWeights& weights, WeightReader& reader) const;
  bool windowed(int layer) const;
  void lay_out(const StepPlan& plan);
  void embed(const std::vector<TokenId>& tokens);
  void attention(int layer, const std::vector<float>& in);  // to update_
  void place_keys_values(int layer, int begin, int end);
  void normalise_heads(float* first, int heads, const WeightMatrix& norm) const;
  void attend_rows(int layer);
  void attend_row(int layer, int row, int kv_head, AttentionScratch& scratch);
  // What a branch reads: the stream, through the norm where there is one.
  const std::vector<float>& normalised(const WeightMatrix& norm);
  // Adds update_ to the stream, through the norm where there is one.
  void add_to_stream(const WeightMatrix& norm);
  void finish(const StepPlan& plan);
  void finish_rows(const StepPlan& plan, std::size_t begin, std::size_t end, std::vector<RowResult>& results);

  const DecoderSpec spec_;
  const std::shared_ptr<ThreadTeam> team_;
  Projection embedding_;  // [vocabulary, hidden]; the head too when tied
  std::vector<Layer> layers_;
  WeightMatrix final_norm_;
  Projection head_;  // empty when tied
  std::size_t weight_bytes_ = 0;
  KvPool kv_;

  // The step at hand; buffers keep their capacity from step to step.
  std::vector<Row> rows_;  // [T]
  RotaryTable rotary_;
  std::optional<RotaryTable> window_rotary_;  // of sliding-window layers, where it is another
  std::vector<float> stream_;                 // [T, hidden]: what the layers add to
  std::vector<float> normed_;                 // [T, hidden]
  std::vector<float> update_;                 // [T, hidden]
  LayerBuffers buffers_;
  std::vector<float> logits_;              // [some wanted rows, vocabulary]
  std::vector<AttentionScratch> scratch_;  // one a thread
  std::optional<StepResult> result_;       // submitted, not collected
  std::vector<RowResult> last_step_;       // tokens only
};

}  // namespace cortex

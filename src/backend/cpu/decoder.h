// A decoder on the processor: every row of every slice of a step passes each layer together, so that weights are read
// once a step. This file is the step; self_attention.h, feed_forward.h and experts.h are what a layer is made of,
// kernels.h is what computes. A row's result is the same bits whatever rides beside it, however its prompt was cut and
// however many threads work. Owned by the engine, called by its thread; the team is shared between the models of the
// backend.
#pragma once

#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/experts.h"
#include "backend/cpu/feed_forward.h"
#include "backend/cpu/language_head.h"
#include "backend/cpu/projection.h"
#include "backend/cpu/self_attention.h"
#include "backend/cpu/thread_team.h"

namespace cortex {

class CpuDecoder : public DecoderBackend {
 public:
  CpuDecoder(const DecoderSpec& spec, const DecoderWeights& weights, const LoadProgress& progress,
             std::shared_ptr<ThreadTeam> team, Arithmetic arithmetic);

  KvGeometry kv_geometry() const override;
  void reserve_kv(int blocks) override { attention_.kv().reserve(blocks); }
  void submit(const StepPlan& plan) override;
  void collect(StepResult* result) override;
  void read_blocks(std::span<const BlockId> blocks, std::span<std::byte> out) override {
    attention_.kv().read(blocks, out);
  }
  void write_blocks(std::span<const BlockId> blocks, std::span<const std::byte> bytes) override {
    attention_.kv().write(blocks, bytes);
  }
  void discard(std::span<const BlockId> blocks) override { attention_.kv().discard(blocks); }
  void prepare(std::span<const BlockId> blocks) override { attention_.kv().prepare(blocks); }
  std::size_t memory_bytes() const override;

 private:
  // A branch off the stream of rows: x + after(f(before(x))); a norm that is not there is empty.
  struct Norms {
    Vector before, after;
  };
  struct Layer {
    Norms attention_norms, mlp_norms;
    AttentionWeights attention;
    std::variant<CpuFeedForward, CpuExperts> mlp;
  };

  Layer read_layer(int layer, const DecoderLayerWeights& weights, WeightLoader& loader, Arithmetic arithmetic) const;
  void embed(const std::vector<TokenId>& tokens);
  // Adds what the last branch left in update_ to the stream, through its norm `after`, and makes the stream's rows,
  // through the norm `before`, the input of `next`.
  void enter_branch(const Vector& after, const Vector& before, const Projection& next);
  // Where a branch's output goes: into the stream, or to update_ when a norm follows.
  LinearEnd branch_end(const Vector& after) const { return after.empty() ? LinearEnd::add : LinearEnd::store; }
  float* branch_out(const Vector& after) { return after.empty() ? stream_.data() : update_.data(); }
  float* stream_row(int row) { return stream_.data() + static_cast<std::size_t>(row) * width_; }
  void add_update(int row, const Vector& after);
  void finish(const StepPlan& plan, const Vector& after);
  void finish_rows(std::span<const WantedRow> wanted, std::span<RowResult> results);

  const DecoderSpec spec_;
  const Arithmetic arithmetic_;
  const std::size_t width_;  // hidden, padded to whole panels: what rows of the stream are apart
  const std::shared_ptr<ThreadTeam> team_;
  WeightArena arena_;
  Projection embedding_;  // [vocabulary, hidden]; the head too when tied
  std::vector<Layer> layers_;
  Vector final_norm_;
  Projection head_;  // empty when tied
  SelfAttention attention_;

  // The step at hand; buffers keep their capacity from step to step.
  int rows_ = 0;
  std::vector<float> stream_;  // [T, width_]: what the layers add to
  std::vector<float> update_;  // [T, width_]
  InputRows in_;               // what the next projection reads
  FeedForwardBuffers feed_forward_;
  LanguageHead language_head_;
  std::optional<StepResult> result_;  // submitted, not collected
  std::vector<RowResult> last_step_;  // tokens only
};

}  // namespace cortex

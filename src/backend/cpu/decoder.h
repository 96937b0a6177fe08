// A decoder on the processor: every row of every slice of a step passes each layer together, so that weights are read
// once a step. This file is the step; decoder_layer.h is what a layer is made of, layer_stream.h brings those that
// don't stay in memory, kernels.h is what computes. A row's result is the same bits whatever rides beside it, however
// its prompt was cut and however many threads work. Owned by the engine, called by its thread; the team is shared
// between the models of the backend.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/decoder_layer.h"
#include "backend/cpu/language_head.h"
#include "backend/cpu/layer_stream.h"
#include "backend/cpu/projection.h"
#include "backend/cpu/self_attention.h"
#include "backend/cpu/thread_team.h"

namespace cortex {

class CpuDecoder : public DecoderBackend {
 public:
  CpuDecoder(const DecoderSpec& spec, const DecoderWeights& weights, const DecoderHolding& holding,
             const LoadProgress& progress, std::shared_ptr<ThreadTeam> team, Arithmetic arithmetic);

  KvGeometry kv_geometry() const override;
  void reserve_kv(int blocks) override { attention_.reserve(blocks); }
  void submit(const StepPlan& plan) override;
  void collect(StepResult* result) override;
  void read_blocks(std::span<const BlockId> blocks, std::span<std::byte> out) override {
    attention_.kv().read(blocks, out);
  }
  void write_blocks(std::span<const BlockId> blocks, std::span<const std::byte> bytes) override {
    attention_.kv().write(blocks, bytes);
  }
  void discard(std::span<const BlockId> blocks) override { attention_.discard(blocks); }
  void prepare(std::span<const BlockId> blocks) override { attention_.prepare(blocks); }
  std::size_t memory_bytes() const override;

 private:
  int layer_count() const { return static_cast<int>(spec_.layers.size()); }
  bool is_streamed_at_all() const { return holding_.resident_layers < layer_count(); }
  bool is_streamed(int layer) const { return cortex::is_streamed(layer, layer_count(), holding_.resident_layers); }
  DecoderLayer read_layer(const DecoderWeights& weights, int layer, WeightLoader& loader) const;
  // Each layer in a range of its own, from the packed file, which is made where it is not there.
  void read_ranges(const DecoderWeights& weights, WeightLoader& loader);
  // One after another; what `visit` is told is laid out, and read if the loader reads.
  template <typename Visit>
  void lay_out_ranges(const DecoderWeights& weights, WeightLoader& loader, const Visit& visit);
  // Adds the layer to the stream of rows, but for what is left in update_ to be added through the norm that it returns.
  Vector run_layer(int index, Vector after);
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
  const DecoderHolding holding_;
  const std::size_t width_;  // hidden, padded to whole panels: what rows of the stream are apart
  const std::shared_ptr<ThreadTeam> team_;
  WeightArena arena_;
  std::vector<WeightArena> ranges_;  // of each layer, when some don't stay
  Projection embedding_;             // [vocabulary, hidden]; the head too when tied
  std::vector<DecoderLayer> layers_;
  Vector final_norm_;
  Projection head_;                            // empty when tied
  std::unique_ptr<LayerStream> layer_stream_;  // when some don't stay
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

// A decoder composed of MLX operations: the reference that other backends are compared with. A step is one graph over
// all rows of all slices; only attention goes slice by slice. Made on a loader thread, used by the engine thread.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "backend/backend.h"
#include "backend/mlx/attention.h"
#include "backend/mlx/device_memory.h"
#include "backend/mlx/experts.h"
#include "backend/mlx/feed_forward.h"
#include "backend/mlx/layers.h"
#include "backend/mlx/paged_pool.h"

namespace cortex {

class MlxDecoder final : public DecoderBackend {
 public:
  // `numeric_class` names the library and device, for KvGeometry.
  MlxDecoder(const DecoderSpec& spec, const DecoderWeights& weights, std::string numeric_class,
             const LoadProgress& progress);

  KvGeometry kv_geometry() const override;
  void reserve_kv(int blocks) override;
  // Computes the whole step; collect hands over what it gave.
  void submit(const StepPlan& plan) override;
  void collect(StepResult* result) override;
  void read_blocks(std::span<const BlockId> blocks, std::span<std::byte> out) override;
  void write_blocks(std::span<const BlockId> blocks, std::span<const std::byte> bytes) override;
  void discard(std::span<const BlockId> blocks) override;
  void prepare(std::span<const BlockId>) override {}  // the pool was written when it was made
  std::size_t memory_bytes() const override;
  std::size_t device_bytes() const override { return mlx_device_bytes(); }
  void trim() override { trim_mlx(); }

 private:
  // A branch off the stream of rows: x + after(f(before(x))).
  struct Norms {
    std::optional<MlxRmsNorm> before, after;
  };
  struct Layer {
    Layer(const DecoderSpec& spec, int layer, const DecoderLayerWeights& weights);
    std::size_t bytes() const;
    Norms attention_norms, mlp_norms;
    MlxAttention attention;
    std::variant<MlxFeedForward, MlxExperts> mlp;
  };

  // The last layer's output, [T, hidden]; extends the pool.
  mx::array body(const StepPlan& plan, std::span<const TokenId> tokens);
  std::vector<RowResult> step(const StepPlan& plan, std::span<const TokenId> tokens);
  std::vector<RowResult> sample(const StepPlan& plan, const mx::array& hidden) const;
  // Runs `work` on the pool; what MLX throws there leaves the pool in an unknown state, so the model is unusable.
  template <typename Work>
  auto guarded(Work&& work);

  const TrimsMlxAtEnd trims_;
  DecoderSpec spec_;
  std::string numeric_class_;
  mx::array embedding_;  // [vocabulary, hidden]
  mx::array head_;       // likewise; the embedding itself when tied
  MlxRmsNorm final_norm_;
  std::vector<Layer> layers_;
  PagedPool pool_;
  std::size_t weight_bytes_ = 0;
  std::vector<RowResult> last_rows_;  // of the last step that succeeded
  bool submitted_ = false;
  std::string failure_;  // why it is unusable
};

}  // namespace cortex

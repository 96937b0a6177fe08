// A decoder composed of MLX operations: the reference that other backends are compared with. A step is one graph over
// all rows of all slices; only attention goes slice by slice. Made on a loader thread, used by the engine thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/mlx/layers.h"
#include "backend/mlx/paged_pool.h"
#include "backend/mlx/rotary.h"

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
  std::size_t memory_bytes() const override;

 private:
  struct Layer {
    explicit Layer(const DecoderLayerWeights& weights);
    std::size_t bytes() const;
    mx::array attention_norm, mlp_norm;  // [hidden]
    MlxLinear query_key_value, output, gate_up, down;
  };
  // Some rows of one slice, which attend to one range of keys.
  struct AttentionTile {
    int first_row = 0;  // in the step
    int rows = 0;
    PagedPool::Range keys;
    bool causal = false;
    std::optional<mx::array> mask;  // [rows, keys.tokens], where causal does not say it all
  };
  // What every layer of a step shares.
  struct StepLayout {
    CheckedIds slots;  // [T], where the rows' K and V go
    RotaryRows rotary;
    std::map<int, std::vector<AttentionTile>> tiles;  // by window_tokens, 0 for full attention
  };

  StepLayout lay_out(const StepPlan& plan) const;
  std::vector<AttentionTile> tiles_of(const StepPlan& plan, int window_tokens) const;
  mx::array normalised(const mx::array& x, const mx::array& weight) const;
  mx::array attention(int layer, const mx::array& x, const StepLayout& layout);
  mx::array feed_forward(const Layer& layer, const mx::array& x) const;
  // The last layer's output, [T, hidden]; extends the pool.
  mx::array body(const StepPlan& plan, std::span<const TokenId> tokens);
  std::vector<RowResult> step(const StepPlan& plan, std::span<const TokenId> tokens);
  std::vector<RowResult> sample(const StepPlan& plan, const mx::array& hidden) const;
  // Runs `work` on the pool; what MLX throws there leaves the pool in an unknown state, so the model is unusable.
  template <typename Work>
  auto guarded(Work&& work);

  DecoderSpec spec_;
  std::string numeric_class_;
  mx::array embedding_;   // [vocabulary, hidden]
  mx::array head_;        // likewise; the embedding itself when tied
  mx::array final_norm_;  // [hidden]
  std::vector<Layer> layers_;
  Rotary rotary_;
  PagedPool pool_;
  std::size_t weight_bytes_ = 0;
  std::vector<RowResult> last_rows_;  // of the last step that succeeded
  bool submitted_ = false;
  std::string failure_;  // why it is unusable
};

}  // namespace cortex

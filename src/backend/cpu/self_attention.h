// The attention of a decoder's layers: the pool that holds their keys and values, the rotary tables, and the rows at
// hand. Owned by the decoder, called by the engine thread.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/attention.h"
#include "backend/cpu/block_attention.h"
#include "backend/cpu/kv_pool.h"
#include "backend/cpu/projection.h"
#include "backend/cpu/rotary_table.h"
#include "backend/cpu/thread_team.h"

namespace cortex {

struct AttentionWeights {
  AttentionWeights(WeightLoader& loader, Arithmetic arithmetic, const DecoderLayerWeights& weights);

  Projection query_key_value, output;
  Vector query_norm, key_norm;  // empty without
};

class SelfAttention {
 public:
  // `eight_bits`: keys and values take them where they are rounded anyway, and are widened layer by layer.
  SelfAttention(const DecoderSpec& spec, Arithmetic arithmetic, bool eight_bits, std::shared_ptr<ThreadTeam> team);

  KvPool& kv() { return kv_; }
  const KvPool& kv() const { return kv_; }
  // Drops what an earlier pool held.
  void reserve(int blocks);
  void discard(std::span<const BlockId> blocks);
  void prepare(std::span<const BlockId> blocks);
  // A pool without blocks yet, and the memory that each takes.
  static KvPool kv_of(const DecoderSpec& spec, Arithmetic arithmetic, bool eight_bits);
  static std::size_t block_bytes(const DecoderSpec& spec, Arithmetic arithmetic, bool eight_bits);
  std::size_t memory_bytes() const;

  // Called before the first layer of a step.
  void lay_out(const StepPlan& plan);
  // out [rows, out_stride] = or += the attention of a layer over `in`, which is packed for weights.query_key_value.
  void run(int layer, const AttentionWeights& weights, const InputRows& in, LinearEnd end, float* out,
           std::size_t out_stride);

 private:
  struct Row {
    const BlockId* blocks = nullptr;
    int position = 0;
  };
  // Rows of one slice that pass the attention kernel together.
  struct Tile {
    int first_row = 0, rows = 0;
  };

  const DecoderLayerSpec& kind_of(int layer) const { return spec_.layers[static_cast<std::size_t>(layer)]; }
  bool windowed(int layer) const { return kind_of(layer).attention == AttentionKind::sliding_window; }
  float* projected_row(int row) { return projected_.data() + static_cast<std::size_t>(row) * projected_stride_; }
  // Normalises queries and keys, turns them by their positions and puts keys and values where their blocks are.
  void place(int layer, const AttentionWeights& weights, int row);
  void normalise_heads(float* first, int heads, const Vector& norm) const;
  // The first position that a row of the layer sees.
  int first_seen(int layer, int position) const;
  void attend(int layer);
  void find_seen(int layer);
  // Makes what the rows see of a layer bfloat16.
  void widen(int layer);
  void attend_tile(int layer, const Tile& tile, int head, int heads, BlockAttention& attention);
  // float32 keys and values: all query heads that share one head of them.
  void attend_row(int layer, int row, int kv_head, AttentionScratch& scratch);

  const DecoderSpec spec_;
  const std::shared_ptr<ThreadTeam> team_;
  const KvPrecision precision_;
  const int group_;      // query heads that share one of keys and values
  const int tile_rows_;  // at most, in a tile
  KvPool kv_;
  std::optional<KvPool> wide_;  // of the layer at hand, where kv_ has 8 bits; the same blocks
  RotaryTable rotary_;
  std::optional<RotaryTable> window_rotary_;  // of sliding-window layers, where it is another

  // The step at hand; buffers keep their capacity from step to step.
  std::vector<Row> rows_;  // [T]
  std::vector<Tile> tiles_;
  std::vector<BlockId> seen_;     // by the rows, in the layer at hand; each once
  int seen_window_ = -1;          // that seen_ is for; 0: there is none
  std::vector<float> projected_;  // [T, projected_stride_]: queries, keys, values
  std::size_t projected_stride_ = 0;
  InputRows mixed_;  // [T, heads * head_dim]
  // One a thread: for keys and values in bfloat16, or in float32.
  std::vector<BlockAttention> block_attention_;
  std::vector<AttentionScratch> scratch_;
};

}  // namespace cortex

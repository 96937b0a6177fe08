// An encoder on the processor: packed texts pass each layer together, without padding, each text attends to itself. A
// text's result is the same bits whatever is packed beside it. Owned by the engine, called by its thread; the team is
// shared between the models of the backend.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/attention.h"
#include "backend/cpu/block_attention.h"
#include "backend/cpu/encoder_parts.h"
#include "backend/cpu/feed_forward.h"
#include "backend/cpu/projection.h"
#include "backend/cpu/rotary_table.h"
#include "backend/cpu/thread_team.h"

namespace cortex {

class CpuEncoder : public EncoderBackend {
 public:
  CpuEncoder(const EncoderSpec& spec, const EncoderWeights& weights, WeightPrecision precision,
             const LoadProgress& progress, std::shared_ptr<ThreadTeam> team, Arithmetic arithmetic);

  void encode(const PackedTexts& texts, EncodeResult* result) override;
  std::size_t memory_bytes() const override;

 private:
  using Norm = EncoderParts::Norm;
  using Layer = EncoderParts::Layer;
  struct Row {
    int begin = 0, end = 0;  // of its text
  };
  // Rows of one text that pass the attention kernel together, and the first block of its keys and values.
  struct Tile {
    int first_row = 0, rows = 0;
    int first_block = 0;
  };

  EncoderParts read_parts(const EncoderWeights& weights, WeightPrecision precision, const LoadProgress& progress,
                          Arithmetic arithmetic);
  // Adds the texts' results to what `result` has.
  void encode_batch(const PackedTexts& texts, EncodeResult* result);
  void lay_out(const PackedTexts& texts);
  void embed(const PackedTexts& texts);
  void attention(const EncoderLayerSpec& kind, const Layer& weights);  // of in_, added to the stream
  void turn_row(const Layer& weights, bool windowed, int row);
  void keep_keys_values(const Layer& weights);
  // What a row sees: [begin, end) of its text.
  Row seen_by(const EncoderLayerSpec& kind, int row) const;
  void attend(const EncoderLayerSpec& kind, const Layer& weights);
  void attend_tile(const EncoderLayerSpec& kind, const Tile& tile, int head, BlockAttention& attention);
  // float32: all heads of one row over the rows [begin, end).
  void attend_row(const Layer& weights, int row, int begin, int end, AttentionScratch& scratch);
  float* stream_row(int row) { return stream_.data() + static_cast<std::size_t>(row) * width_; }
  float* projected_row(int row) { return projected_.data() + static_cast<std::size_t>(row) * projected_stride_; }
  // out = norm(in), [hidden]; they may be the same.
  void normalise(const Norm& norm, const float* in, float* out) const;
  // Makes the stream's rows, through the norm where there is one, the input of `next`; post_norm leaves them normalised
  // in the stream too.
  void enter_branch(const Norm* norm, const Projection& next);
  void pool(const PackedTexts& texts, std::vector<float>& pooled) const;
  // Of a classifier: pooled [N, hidden] to [N, labels].
  std::vector<float> classify(const std::vector<float>& pooled);
  // out [rows, projection.outputs()] of rows [rows, columns].
  std::vector<float> project_rows(const Projection& projection, const std::vector<float>& rows);

  const EncoderSpec spec_;
  const std::size_t width_;  // hidden, padded to whole panels: what rows of the stream are apart
  const std::shared_ptr<ThreadTeam> team_;
  WeightArena arena_;
  const EncoderParts parts_;

  // The texts at hand; buffers keep their capacity from call to call.
  std::vector<Row> rows_;  // [T]
  RotaryTable rotary_;
  std::optional<RotaryTable> window_rotary_;  // of sliding-window layers, where it is another
  std::vector<float> stream_;                 // [T, width_]
  InputRows in_;                              // what the next projection reads
  std::vector<float> projected_;              // [T, projected_stride_]: queries, keys, values
  std::size_t projected_stride_ = 0;
  FeedForwardBuffers feed_forward_;
  // Keys and values of the layer at hand in bfloat16, unless exact; text by text, from a block's beginning.
  std::optional<KvPool> kv_;
  std::vector<BlockId> kv_blocks_;  // 0, 1, 2, ...
  std::vector<Tile> tiles_;
  // One a thread: for keys and values in bfloat16, or in float32.
  std::vector<BlockAttention> block_attention_;
  std::vector<AttentionScratch> scratch_;
};

}  // namespace cortex

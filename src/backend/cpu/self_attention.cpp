#include "backend/cpu/self_attention.h"

#include <algorithm>
#include <atomic>

#include "backend/cpu/buffer.h"
#include "backend/cpu/kernels.h"

namespace cortex {
namespace {

// Keys and values that one thread reads sooner than it wakes another.
constexpr std::size_t kFewKvBytes = 96 << 10;

KvPrecision precision_of(const DecoderSpec& spec, Arithmetic arithmetic, bool eight_bits) {
  const bool fits = spec.head_dim % 2 == 0 && spec.head_dim <= kMostHeadDim;
  if (arithmetic != Arithmetic::fast || !fits) return KvPrecision::f32;
  return eight_bits ? KvPrecision::q8 : KvPrecision::bf16;
}

}  // namespace

AttentionWeights::AttentionWeights(WeightLoader& loader, Arithmetic arithmetic, const DecoderLayerWeights& weights)
    : query_key_value(
          loader, arithmetic,
          {{weights.query, weights.query_bias}, {weights.key, weights.key_bias}, {weights.value, weights.value_bias}}),
      output(loader, arithmetic, {{weights.output, weights.output_bias}}),
      query_norm(loader.vector(weights.query_norm)),
      key_norm(loader.vector(weights.key_norm)) {}

SelfAttention::SelfAttention(const DecoderSpec& spec, Arithmetic arithmetic, bool eight_bits,
                             std::shared_ptr<ThreadTeam> team)
    : spec_(spec),
      team_(std::move(team)),
      precision_(precision_of(spec, arithmetic, eight_bits)),
      group_(spec.heads / spec.kv_heads),
      tile_rows_(std::max(1, kAttentionRows / group_)),
      kv_(kv_of(spec, arithmetic, eight_bits)),
      rotary_(spec.rope),
      scratch_(static_cast<std::size_t>(team_->size())) {
  if (spec.window_rope) window_rotary_.emplace(*spec.window_rope);
  if (precision_ == KvPrecision::q8) wide_.emplace(1, spec.kv_heads, spec.head_dim, KvPrecision::bf16);
  if (precision_ != KvPrecision::f32) {
    for (int thread = 0; thread < team_->size(); ++thread) block_attention_.emplace_back(spec.head_dim);
  }
}

std::size_t SelfAttention::memory_bytes() const {
  std::size_t bytes = kv_.memory_bytes() + mixed_.memory_bytes() + rotary_.memory_bytes();
  if (window_rotary_) bytes += window_rotary_->memory_bytes();
  if (wide_) bytes += wide_->memory_bytes();
  return bytes + projected_.capacity() * sizeof(float);
}

KvPool SelfAttention::kv_of(const DecoderSpec& spec, Arithmetic arithmetic, bool eight_bits) {
  return {static_cast<int>(spec.layers.size()), spec.kv_heads, spec.head_dim,
          precision_of(spec, arithmetic, eight_bits)};
}

std::size_t SelfAttention::block_bytes(const DecoderSpec& spec, Arithmetic arithmetic, bool eight_bits) {
  const std::size_t kept = kv_of(spec, arithmetic, eight_bits).stride_bytes();
  if (precision_of(spec, arithmetic, eight_bits) != KvPrecision::q8) return kept;
  return kept + KvPool(1, spec.kv_heads, spec.head_dim, KvPrecision::bf16).stride_bytes();
}

void SelfAttention::reserve(int blocks) {
  kv_.reserve(blocks);
  if (wide_) wide_->reserve(blocks);
}

void SelfAttention::discard(std::span<const BlockId> blocks) {
  kv_.discard(blocks);
  if (wide_) wide_->discard(blocks);
}

void SelfAttention::prepare(std::span<const BlockId> blocks) {
  kv_.prepare(blocks);
  if (wide_) wide_->prepare(blocks);
}

void SelfAttention::lay_out(const StepPlan& plan) {
  seen_window_ = -1;
  rows_.clear();
  tiles_.clear();
  std::vector<int> positions;
  for (const SequenceSlice& slice : plan.slices) {
    for (int at = 0; at < slice.rows; at += tile_rows_) {
      tiles_.push_back({static_cast<int>(rows_.size()) + at, std::min(tile_rows_, slice.rows - at)});
    }
    for (int i = 0; i < slice.rows; ++i) {
      rows_.push_back({slice.blocks.data(), slice.start + i});
      positions.push_back(slice.start + i);
    }
  }
  rotary_.lay_out(positions);
  if (window_rotary_) window_rotary_->lay_out(positions);
}

void SelfAttention::run(int layer, const AttentionWeights& weights, const InputRows& in, LinearEnd end, float* out,
                        std::size_t out_stride) {
  const int rows = static_cast<int>(rows_.size());
  const Projection& first = weights.query_key_value;
  projected_stride_ = static_cast<std::size_t>(first.outputs());
  make_room(projected_, static_cast<std::size_t>(rows) * projected_stride_);
  first.run(*team_, in.view(), rows, LinearEnd::store, projected_.data(), projected_stride_);
  team_->for_rows(rows, [&](int row) { place(layer, weights, row); });
  mixed_.reshape(rows, weights.output.columns(), weights.output.padded_columns(), weights.output.products());
  if (wide_) widen(layer);
  attend(layer);
  team_->for_rows(rows, [&](int row) { mixed_.pack(row); });
  weights.output.run(*team_, mixed_.view(), rows, end, out, out_stride);
}

void SelfAttention::place(int layer, const AttentionWeights& weights, int row) {
  const RotaryTable& rotary = windowed(layer) && window_rotary_ ? *window_rotary_ : rotary_;
  float* queries = projected_row(row);
  float* keys = queries + weights.query_key_value.offset(1);
  const float* values = queries + weights.query_key_value.offset(2);
  normalise_heads(queries, spec_.heads, weights.query_norm);
  normalise_heads(keys, spec_.kv_heads, weights.key_norm);
  rotary.turn(queries, spec_.heads, spec_.head_dim, row);
  rotary.turn(keys, spec_.kv_heads, spec_.head_dim, row);
  const auto [blocks, position] = rows_[static_cast<std::size_t>(row)];
  const BlockId block = blocks[position / kBlockTokens];
  for (int head = 0; head < spec_.kv_heads; ++head) {
    const int at = head * spec_.head_dim;
    kv_.put(block, layer, head, position % kBlockTokens, keys + at, values + at);
  }
}

void SelfAttention::normalise_heads(float* first, int heads, const Vector& norm) const {
  if (norm.empty()) return;
  const int size = norm.size;  // a head's, or all heads'
  for (float* part = first; part < first + std::ptrdiff_t{heads} * spec_.head_dim; part += size) {
    kernels().rms_norm(part, norm.values, spec_.norm_epsilon, size, part);
  }
}

int SelfAttention::first_seen(int layer, int position) const {
  return windowed(layer) ? std::max(0, position - kind_of(layer).window_tokens + 1) : 0;
}

void SelfAttention::find_seen(int layer) {
  seen_.clear();
  const BlockId* blocks = nullptr;
  int end = 0;  // of what the tiles before have of the same sequence
  for (const Tile& tile : tiles_) {
    const Row& first = rows_[static_cast<std::size_t>(tile.first_row)];
    const Row& last = rows_[static_cast<std::size_t>(tile.first_row + tile.rows - 1)];
    if (first.blocks != blocks) end = 0;
    blocks = first.blocks;
    const int begin = std::max(end, first_seen(layer, first.position) / kBlockTokens);
    end = last.position / kBlockTokens + 1;
    if (begin < end) seen_.insert(seen_.end(), blocks + begin, blocks + end);
  }
  std::ranges::sort(seen_);
  seen_.erase(std::unique(seen_.begin(), seen_.end()), seen_.end());  // sequences share blocks
}

void SelfAttention::widen(int layer) {
  const int window = windowed(layer) ? kind_of(layer).window_tokens : 0;
  if (window != seen_window_) find_seen(layer);
  seen_window_ = window;
  team_->parallel_for(static_cast<int>(seen_.size()), [&](int begin, int end) {
    for (int i = begin; i < end; ++i) kv_.widen(seen_[static_cast<std::size_t>(i)], layer, &*wide_);
  });
}

void SelfAttention::attend(int layer) {
  const int heads = std::min(group_, kAttentionRows);  // query heads in a task
  const int head_tasks = spec_.kv_heads * ((group_ + heads - 1) / heads);
  const bool blocks = precision_ != KvPrecision::f32;
  const int tasks =
      blocks ? static_cast<int>(tiles_.size()) * head_tasks : static_cast<int>(rows_.size()) * spec_.kv_heads;
  std::atomic<int> next = 0;
  const auto work = [&](int thread) {
    const auto index = static_cast<std::size_t>(thread);
    for (int task = next.fetch_add(1); task < tasks; task = next.fetch_add(1)) {
      if (blocks) {
        const int per_group = head_tasks / spec_.kv_heads;
        const int in_group = task % head_tasks % per_group * heads;
        const int head = task % head_tasks / per_group * group_ + in_group;
        attend_tile(layer, tiles_[static_cast<std::size_t>(task / head_tasks)], head,
                    std::min(heads, group_ - in_group), block_attention_[index]);
      } else {
        attend_row(layer, task / spec_.kv_heads, task % spec_.kv_heads, scratch_[index]);
      }
    }
  };
  std::size_t seen = 0;
  for (const Row& row : rows_) seen += static_cast<std::size_t>(row.position) + 1;
  const std::size_t kv_bytes = seen * static_cast<std::size_t>(spec_.kv_heads * spec_.head_dim) * 4;
  const int threads = kv_bytes <= kFewKvBytes ? 1 : std::min(tasks, team_->size());
  if (threads == 1) return work(0);
  team_->run(threads, work);
}

void SelfAttention::attend_tile(int layer, const Tile& tile, int head, int heads, BlockAttention& attention) {
  std::vector<AttentionRow>& rows = attention.rows();
  rows.clear();
  for (int row = tile.first_row; row < tile.first_row + tile.rows; ++row) {
    const int position = rows_[static_cast<std::size_t>(row)].position;
    for (int each = head; each < head + heads; ++each) {
      const int at = each * spec_.head_dim;
      rows.push_back({projected_row(row) + at, mixed_.row(row) + at, first_seen(layer, position), position});
    }
  }
  attention.run(wide_ ? *wide_ : kv_, wide_ ? 0 : layer, head / group_,
                rows_[static_cast<std::size_t>(tile.first_row)].blocks, spec_.score_scale());
}

// All query heads that share one head of keys and values.
void SelfAttention::attend_row(int layer, int row, int kv_head, AttentionScratch& scratch) {
  const auto [blocks, position] = rows_[static_cast<std::size_t>(row)];
  scratch.runs.clear();
  for (int at = first_seen(layer, position); at <= position;) {
    const int in_block = at % kBlockTokens;
    const int count = std::min(kBlockTokens - in_block, position + 1 - at);
    const BlockId block = blocks[at / kBlockTokens];
    const int offset = in_block * spec_.head_dim;
    scratch.runs.push_back(
        {kv_.keys(block, layer, kv_head) + offset, kv_.values(block, layer, kv_head) + offset, count});
    at += count;
  }
  for (int head = kv_head * group_; head < (kv_head + 1) * group_; ++head) {
    const int at = head * spec_.head_dim;
    cortex::attend(projected_row(row) + at, scratch, static_cast<std::size_t>(spec_.head_dim), spec_.head_dim,
                   spec_.score_scale(), mixed_.row(row) + at);
  }
}

}  // namespace cortex

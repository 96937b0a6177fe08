#include "backend/cpu/encoder.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <utility>

#include "backend/cpu/buffer.h"
#include "backend/cpu/flush_denormals.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/model_needs.h"
#include "backend/plan_check.h"

namespace cortex {
namespace {

std::size_t elements_of(const EncoderSpec& spec) {
  const auto hidden = static_cast<std::size_t>(spec.hidden);
  const std::size_t attention = 4 * static_cast<std::size_t>(spec.heads) * static_cast<std::size_t>(spec.head_dim);
  const std::size_t feed_forward = (spec.gated ? 3 : 2) * static_cast<std::size_t>(spec.intermediate);
  const std::size_t tables = hidden * static_cast<std::size_t>(spec.vocabulary + spec.positions + spec.token_types);
  return tables + hidden * (attention + feed_forward) * spec.layers.size();
}

PackedTexts some_of(const PackedTexts& texts, std::size_t first, std::size_t last) {
  const auto begin = texts.starts[first], end = texts.starts[last];
  PackedTexts some;
  some.hidden = texts.hidden;
  some.tokens.assign(texts.tokens.begin() + begin, texts.tokens.begin() + end);
  if (!texts.types.empty()) some.types.assign(texts.types.begin() + begin, texts.types.begin() + end);
  for (std::size_t text = first; text <= last; ++text) some.starts.push_back(texts.starts[text] - begin);
  return some;
}

}  // namespace

CpuEncoder::CpuEncoder(const EncoderSpec& spec, const EncoderWeights& weights, WeightPrecision precision,
                       const LoadProgress& progress, std::shared_ptr<ThreadTeam> team, Arithmetic arithmetic)
    : spec_(spec),
      width_(static_cast<std::size_t>(padded_rows(spec.hidden))),
      team_(std::move(team)),
      parts_(read_parts(weights, precision, progress, arithmetic)),
      rotary_(spec.rope),
      scratch_(static_cast<std::size_t>(team_->size())) {
  if (spec.window_rope) window_rotary_.emplace(*spec.window_rope);
  if (const auto precision_of_kv = encoder_kv_precision(spec, arithmetic)) {
    kv_.emplace(1, spec.heads, spec.head_dim, *precision_of_kv);
    for (int thread = 0; thread < team_->size(); ++thread) block_attention_.emplace_back(spec.head_dim);
  }
}

EncoderParts CpuEncoder::read_parts(const EncoderWeights& weights, WeightPrecision precision,
                                    const LoadProgress& progress, Arithmetic arithmetic) {
  WeightLoader loader(arena_, floats_in_layers(precision, arithmetic), elements_of(spec_), progress);
  return {spec_, weights, loader, precision, arithmetic};
}

void CpuEncoder::encode(const PackedTexts& texts, EncodeResult* result) {
  check_texts(texts, spec_);
  const FlushDenormals flush;
  result->dimensions = spec_.head ? spec_.head->labels : spec_.hidden;
  result->pooled.clear();
  result->hidden.clear();
  const std::size_t count = texts.starts.size() - 1;
  for (std::size_t first = 0; first < count;) {
    std::size_t last = first + 1;
    while (last < count && texts.starts[last + 1] - texts.starts[first] <= kEncoderRows) ++last;
    encode_batch(some_of(texts, first, last), result);
    first = last;
  }
}

void CpuEncoder::encode_batch(const PackedTexts& texts, EncodeResult* result) {
  const int rows = static_cast<int>(texts.tokens.size());
  lay_out(texts);
  embed(texts);
  const Norm* waiting = nullptr;  // post_norm: what the stream passes before the next branch reads it
  for (std::size_t index = 0; index < parts_.layers.size(); ++index) {
    const Layer& layer = parts_.layers[index];
    const Norm* attention_norm = layer.attention_norm ? &*layer.attention_norm : nullptr;
    enter_branch(spec_.pre_norm ? attention_norm : waiting, layer.query_key_value);
    attention(spec_.layers[index], layer);
    enter_branch(spec_.pre_norm ? &layer.mlp_norm : attention_norm, layer.mlp.first());
    layer.mlp.run(*team_, in_, rows, feed_forward_, LinearEnd::add, stream_.data(), width_);
    waiting = &layer.mlp_norm;
  }
  const Norm* last = spec_.pre_norm ? (parts_.final_norm ? &*parts_.final_norm : nullptr) : waiting;
  if (last != nullptr) team_->for_rows(rows, [&](int row) { normalise(*last, stream_row(row), stream_row(row)); });
  std::vector<float> pooled;
  pool(texts, pooled);
  if (parts_.head) pooled = classify(pooled);
  result->pooled.insert(result->pooled.end(), pooled.begin(), pooled.end());
  for (int row = 0; texts.hidden && row < rows; ++row) {
    result->hidden.insert(result->hidden.end(), stream_row(row), stream_row(row) + spec_.hidden);
  }
}

std::size_t CpuEncoder::memory_bytes() const {
  std::size_t scratch = in_.memory_bytes() + feed_forward_.memory_bytes() + rotary_.memory_bytes();
  if (window_rotary_) scratch += window_rotary_->memory_bytes();
  if (kv_) scratch += kv_->memory_bytes();
  return arena_.bytes_used() + scratch + (stream_.capacity() + projected_.capacity()) * sizeof(float);
}

void CpuEncoder::lay_out(const PackedTexts& texts) {
  rows_.clear();
  tiles_.clear();
  std::vector<int> positions;
  int blocks = 0;
  for (std::size_t text = 0; text + 1 < texts.starts.size(); ++text) {
    const int begin = texts.starts[text], end = texts.starts[text + 1];
    for (int row = begin; row < end; row += kAttentionRows) {
      tiles_.push_back({row, std::min(kAttentionRows, end - row), blocks});
    }
    blocks += (end - begin + kBlockTokens - 1) / kBlockTokens;
    for (int row = begin; row < end; ++row) {
      rows_.push_back({begin, end});
      positions.push_back(row - begin);
    }
  }
  if (kv_ && kv_->blocks() < blocks) {
    kv_->reserve(blocks);
    kv_blocks_.resize(static_cast<std::size_t>(blocks));
    std::iota(kv_blocks_.begin(), kv_blocks_.end(), 0);
  }
  if (spec_.positions > 0) return;
  rotary_.lay_out(positions);
  if (window_rotary_) window_rotary_->lay_out(positions);
}

void CpuEncoder::embed(const PackedTexts& texts) {
  const auto hidden = static_cast<std::size_t>(spec_.hidden);
  make_room(stream_, rows_.size() * width_);
  std::fill_n(stream_.begin(), rows_.size() * width_, 0.0f);
  team_->for_rows(static_cast<int>(rows_.size()), [&](int row) {
    const auto index = static_cast<std::size_t>(row);
    float* out = stream_row(row);
    std::vector<float> term(hidden);
    const auto add_row = [&](const PackedMatrix& table, int at) {
      unpack_row(table, at, term.data());
      kernels().add(out, term.data(), hidden);
    };
    unpack_row(parts_.token_embedding, texts.tokens[index], out);
    if (spec_.token_types > 0) add_row(parts_.type_embedding, texts.types.empty() ? 0 : texts.types[index]);
    if (spec_.positions > 0) add_row(parts_.position_embedding, row - rows_[index].begin);
    normalise(parts_.embedding_norm, out, out);
  });
}

void CpuEncoder::normalise(const Norm& norm, const float* in, float* out) const {
  kernels().layer_norm(in, norm.weight.values, norm.bias.values, spec_.norm_epsilon, spec_.hidden, out);
}

void CpuEncoder::enter_branch(const Norm* norm, const Projection& next) {
  const int rows = static_cast<int>(rows_.size());
  in_.reshape(rows, spec_.hidden, next.padded_columns(), next.products());
  team_->for_rows(rows, [&](int row) {
    float* stream = stream_row(row);
    if (norm != nullptr && spec_.pre_norm) {
      normalise(*norm, stream, in_.row(row));
    } else {
      if (norm != nullptr) normalise(*norm, stream, stream);
      std::copy_n(stream, spec_.hidden, in_.row(row));
    }
    in_.pack(row);
  });
}

void CpuEncoder::attention(const EncoderLayerSpec& kind, const Layer& weights) {
  const int rows = static_cast<int>(rows_.size());
  const Projection& first = weights.query_key_value;
  projected_stride_ = static_cast<std::size_t>(first.outputs());
  make_room(projected_, rows_.size() * projected_stride_);
  first.run(*team_, in_.view(), rows, LinearEnd::store, projected_.data(), projected_stride_);
  const bool windowed = kind.attention == AttentionKind::sliding_window;
  if (spec_.positions == 0) team_->for_rows(rows, [&](int row) { turn_row(weights, windowed, row); });
  if (kv_) keep_keys_values(weights);
  in_.reshape(rows, weights.output.columns(), weights.output.padded_columns(), weights.output.products());
  attend(kind, weights);
  team_->for_rows(rows, [&](int row) { in_.pack(row); });
  weights.output.run(*team_, in_.view(), rows, LinearEnd::add, stream_.data(), width_);
}

void CpuEncoder::turn_row(const Layer& weights, bool windowed, int row) {
  const RotaryTable& rotary = windowed && window_rotary_ ? *window_rotary_ : rotary_;
  rotary.turn(projected_row(row), spec_.heads, spec_.head_dim, row);
  rotary.turn(projected_row(row) + weights.query_key_value.offset(1), spec_.heads, spec_.head_dim, row);
}

void CpuEncoder::keep_keys_values(const Layer& weights) {
  const Projection& first = weights.query_key_value;
  team_->parallel_for(static_cast<int>(tiles_.size()), [&](int begin, int end) {
    for (int index = begin; index < end; ++index) {
      const Tile& tile = tiles_[static_cast<std::size_t>(index)];
      for (int row = tile.first_row; row < tile.first_row + tile.rows; ++row) {
        const int position = row - rows_[static_cast<std::size_t>(row)].begin;
        for (int head = 0; head < spec_.heads; ++head) {
          const float* projected = projected_row(row) + std::ptrdiff_t{head} * spec_.head_dim;
          kv_->put(tile.first_block + position / kBlockTokens, 0, head, position % kBlockTokens,
                   projected + first.offset(1), projected + first.offset(2));
        }
      }
    }
  });
}

CpuEncoder::Row CpuEncoder::seen_by(const EncoderLayerSpec& kind, int row) const {
  const auto [begin, end] = rows_[static_cast<std::size_t>(row)];
  if (kind.attention == AttentionKind::full) return {begin, end};
  return {row - std::min(row - begin, kind.reach_tokens), row + 1 + std::min(end - row - 1, kind.reach_tokens)};
}

void CpuEncoder::attend(const EncoderLayerSpec& kind, const Layer& weights) {
  const int tasks = kv_ ? static_cast<int>(tiles_.size()) * spec_.heads : static_cast<int>(rows_.size());
  std::atomic<int> next = 0;
  team_->run(std::min(tasks, team_->size()), [&](int thread) {
    const auto index = static_cast<std::size_t>(thread);
    for (int task = next.fetch_add(1); task < tasks; task = next.fetch_add(1)) {
      if (kv_) {
        attend_tile(kind, tiles_[static_cast<std::size_t>(task / spec_.heads)], task % spec_.heads,
                    block_attention_[index]);
      } else {
        const auto [begin, end] = seen_by(kind, task);
        attend_row(weights, task, begin, end, scratch_[index]);
      }
    }
  });
}

void CpuEncoder::attend_tile(const EncoderLayerSpec& kind, const Tile& tile, int head, BlockAttention& attention) {
  const int begin = rows_[static_cast<std::size_t>(tile.first_row)].begin;
  const int at = head * spec_.head_dim;
  std::vector<AttentionRow>& rows = attention.rows();
  rows.clear();
  for (int row = tile.first_row; row < tile.first_row + tile.rows; ++row) {
    const Row seen = seen_by(kind, row);
    rows.push_back({projected_row(row) + at, in_.row(row) + at, seen.begin - begin, seen.end - 1 - begin});
  }
  attention.run(*kv_, 0, head, kv_blocks_.data() + tile.first_block,
                1.0f / std::sqrt(static_cast<float>(spec_.head_dim)));
}

void CpuEncoder::attend_row(const Layer& weights, int row, int begin, int end, AttentionScratch& scratch) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(spec_.head_dim));
  const Projection& first = weights.query_key_value;
  scratch.runs.resize(1);
  for (int head = 0; head < spec_.heads; ++head) {
    const int offset = head * spec_.head_dim;
    const float* seen = projected_row(begin) + offset;
    scratch.runs[0] = {seen + first.offset(1), seen + first.offset(2), end - begin};
    cortex::attend(projected_row(row) + offset, scratch, projected_stride_, spec_.head_dim, scale,
                   in_.row(row) + offset);
  }
}

std::vector<float> CpuEncoder::project_rows(const Projection& projection, const std::vector<float>& rows) {
  const auto columns = static_cast<std::size_t>(projection.columns());
  const int count = static_cast<int>(rows.size() / columns);
  in_.reshape(count, projection.columns(), projection.padded_columns(), projection.products());
  for (int row = 0; row < count; ++row) {
    std::copy_n(rows.data() + static_cast<std::size_t>(row) * columns, columns, in_.row(row));
    in_.pack(row);
  }
  const auto width = static_cast<std::size_t>(projection.outputs());
  std::vector<float> out(static_cast<std::size_t>(count) * width);
  projection.run(*team_, in_.view(), count, LinearEnd::store, out.data(), width);
  return out;
}

std::vector<float> CpuEncoder::classify(const std::vector<float>& pooled) {
  const auto hidden = static_cast<std::size_t>(spec_.hidden);
  const std::size_t texts = pooled.size() / hidden;
  std::vector<float> rows = pooled;
  if (parts_.head->dense) {
    const std::vector<float> dense = project_rows(*parts_.head->dense, rows);
    const std::size_t width = dense.size() / texts;
    for (std::size_t text = 0; text < texts; ++text) {
      std::copy_n(dense.data() + text * width, hidden, rows.data() + text * hidden);
    }
    kernels().activate(spec_.head->activation, rows.data(), rows.size());
  }
  for (std::size_t text = 0; parts_.head->norm && text < texts; ++text) {
    normalise(*parts_.head->norm, rows.data() + text * hidden, rows.data() + text * hidden);
  }
  const std::vector<float> out = project_rows(parts_.head->out, rows);
  const auto labels = static_cast<std::size_t>(spec_.head->labels);
  std::vector<float> logits;
  for (std::size_t text = 0; text < texts; ++text) {
    const auto from = out.begin() + static_cast<std::ptrdiff_t>(text * out.size() / texts);
    logits.insert(logits.end(), from, from + static_cast<std::ptrdiff_t>(labels));
  }
  return logits;
}

void CpuEncoder::pool(const PackedTexts& texts, std::vector<float>& pooled) const {
  const std::size_t count = texts.starts.size() - 1;
  const auto hidden = static_cast<std::size_t>(spec_.hidden);
  pooled.assign(count * hidden, 0.0f);
  for (std::size_t text = 0; text < count; ++text) {
    const int begin = texts.starts[text];
    const int end = texts.starts[text + 1];
    const auto state = [&](int row) { return stream_.data() + static_cast<std::size_t>(row) * width_; };
    float* out = pooled.data() + text * hidden;
    switch (spec_.head ? spec_.head->pooling : spec_.pooling) {
      case Pooling::cls:
        std::copy_n(state(begin), hidden, out);
        break;
      case Pooling::last_token:
        std::copy_n(state(end - 1), hidden, out);
        break;
      case Pooling::mean:
        for (int row = begin; row < end; ++row) kernels().add(out, state(row), hidden);
        for (std::size_t i = 0; i < hidden; ++i) out[i] /= static_cast<float>(end - begin);
        break;
    }
  }
}

}  // namespace cortex

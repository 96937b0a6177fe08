#include "backend/cpu/decoder.h"

#include <algorithm>
#include <cmath>

#include "backend/cpu/kernels.h"
#include "backend/cpu/projection.h"
#include "backend/plan_check.h"
#include "backend/sampler.h"
#include "base/error.h"

namespace cortex {
namespace {

// Wanted rows that pass the head together: enough to share its weights, few enough for the logits to stay small.
constexpr std::size_t kHeadRows = 64;

std::size_t elements_of(const DecoderSpec& spec) {
  const auto hidden = static_cast<std::size_t>(spec.hidden);
  const auto attention = static_cast<std::size_t>(2 * spec.heads + 2 * spec.kv_heads) * spec.head_dim;
  const std::size_t layer = hidden * (attention + 3 * static_cast<std::size_t>(spec.intermediate));
  const std::size_t tables = hidden * static_cast<std::size_t>(spec.vocabulary) * (spec.tied_head ? 1 : 2);
  return tables + layer * spec.layers.size();
}

}  // namespace

CpuDecoder::CpuDecoder(const DecoderSpec& spec, const DecoderWeights& weights, const LoadProgress& progress,
                       std::shared_ptr<ThreadTeam> team)
    : spec_(spec),
      team_(std::move(team)),
      inverse_frequencies_(inverse_frequencies(spec.rope)),
      kv_(static_cast<int>(spec.layers.size()), spec.kv_heads, spec.head_dim),
      scratch_(static_cast<std::size_t>(team_->size())) {
  WeightReader reader(elements_of(spec), progress);
  embedding_ = reader.read({&weights.embedding});
  for (const DecoderLayerWeights& layer : weights.layers) layers_.push_back(read_layer(layer, reader));
  final_norm_ = reader.read_vector({&weights.final_norm});
  if (weights.head) head_ = reader.read({&*weights.head});
  weight_bytes_ = reader.read_bytes();
}

CpuDecoder::Layer CpuDecoder::read_layer(const DecoderLayerWeights& weights, WeightReader& reader) const {
  Layer layer;
  layer.attention_norm = reader.read_vector({&weights.attention_norm.value()});
  layer.query_key_value = reader.read({&weights.query, &weights.key, &weights.value});
  layer.output = reader.read({&weights.output});
  layer.mlp_norm = reader.read_vector({&weights.mlp_norm.value()});
  layer.gate_up = reader.read({&weights.gate.value(), &weights.up.value()});
  layer.down = reader.read({&weights.down.value()});
  if (spec_.qkv_bias) {
    layer.query_key_value_bias =
        reader.read_vector({&weights.query_bias.value(), &weights.key_bias.value(), &weights.value_bias.value()});
  }
  if (spec_.output_bias) layer.output_bias = reader.read_vector({&weights.output_bias.value()});
  if (spec_.mlp_bias) {
    layer.gate_up_bias = reader.read_vector({&weights.gate_bias.value(), &weights.up_bias.value()});
    layer.down_bias = reader.read_vector({&weights.down_bias.value()});
  }
  return layer;
}

void CpuDecoder::submit(const StepPlan& plan) {
  check_plan(plan, {.vocabulary = spec_.vocabulary,
                    .context_tokens = spec_.context_tokens,
                    .kv_blocks = kv_.blocks(),
                    .last_step = last_step_});
  result_.reset();
  lay_out(plan);
  embed(resolved_tokens(plan, last_step_));
  for (int layer = 0; layer < static_cast<int>(layers_.size()); ++layer) {
    attention_block(layer);
    feed_forward_block(layer);
  }
  finish(plan);
}

void CpuDecoder::collect(StepResult* result) {
  CORTEX_CHECK(result_.has_value());
  *result = std::move(*result_);
  result_.reset();
}

std::size_t CpuDecoder::memory_bytes() const {
  std::size_t scratch = 0;
  for (const auto* buffer : {&cosines_, &sines_, &stream_, &normed_, &projected_, &mixed_, &update_, &logits_}) {
    scratch += buffer->capacity() * sizeof(float);
  }
  return weight_bytes_ + kv_.memory_bytes() + scratch;
}

void CpuDecoder::lay_out(const StepPlan& plan) {
  rows_.clear();
  for (const SequenceSlice& slice : plan.slices) {
    for (int i = 0; i < slice.rows; ++i) rows_.push_back({slice.blocks.data(), slice.start + i});
  }
  const std::size_t half = inverse_frequencies_.size();
  cosines_.resize(rows_.size() * half);
  sines_.resize(rows_.size() * half);
  for (std::size_t row = 0; row < rows_.size(); ++row) {
    for (std::size_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(rows_[row].position) * inverse_frequencies_[i];
      cosines_[row * half + i] = std::cos(angle);
      sines_[row * half + i] = std::sin(angle);
    }
  }
}

void CpuDecoder::embed(const std::vector<TokenId>& tokens) {
  stream_.resize(tokens.size() * static_cast<std::size_t>(spec_.hidden));
  for (std::size_t row = 0; row < tokens.size(); ++row) {
    std::copy_n(embedding_.row(tokens[row]), spec_.hidden,
                stream_.data() + row * static_cast<std::size_t>(spec_.hidden));
  }
}

void CpuDecoder::attention_block(int layer) {
  const Layer& weights = layers_[static_cast<std::size_t>(layer)];
  const int rows = static_cast<int>(rows_.size());
  normalise_rows(weights.attention_norm);
  project(*team_, normed_, rows, weights.query_key_value, weights.query_key_value_bias, projected_);
  team_->parallel_for(rows, [&](int begin, int end) { place_keys_values(layer, begin, end); });
  attend_rows(layer);
  project(*team_, mixed_, rows, weights.output, weights.output_bias, update_);
  add_to_stream(update_);
}

// Turns queries and keys by their positions and puts keys and values where their blocks are.
void CpuDecoder::place_keys_values(int layer, int begin, int end) {
  const int half = static_cast<int>(inverse_frequencies_.size());
  const int width = layers_[static_cast<std::size_t>(layer)].query_key_value.rows;
  for (int row = begin; row < end; ++row) {
    float* heads = projected_.data() + offset_of(row, width);
    for (int head = 0; head < spec_.heads + spec_.kv_heads; ++head) {
      kernels().rotate(heads + offset_of(head, spec_.head_dim), cosines_.data() + offset_of(row, half),
                       sines_.data() + offset_of(row, half), half);
    }
    const auto [blocks, position] = rows_[static_cast<std::size_t>(row)];
    const BlockId block = blocks[position / kBlockTokens];
    const std::size_t offset = offset_of(position % kBlockTokens, spec_.head_dim);
    for (int head = 0; head < spec_.kv_heads; ++head) {
      const float* key = heads + offset_of(spec_.heads + head, spec_.head_dim);
      const float* value = key + offset_of(spec_.kv_heads, spec_.head_dim);
      std::copy_n(key, spec_.head_dim, kv_.keys(block, layer, head) + offset);
      std::copy_n(value, spec_.head_dim, kv_.values(block, layer, head) + offset);
    }
  }
}

// Later rows see more, so rows are dealt out in turn rather than cut into runs.
void CpuDecoder::attend_rows(int layer) {
  const int items = static_cast<int>(rows_.size()) * spec_.kv_heads;
  mixed_.resize(rows_.size() * offset_of(spec_.heads, spec_.head_dim));
  const int parts = std::min(items, static_cast<int>(scratch_.size()));
  team_->run(parts, [&](int part) {
    AttentionScratch& scratch = scratch_[static_cast<std::size_t>(part)];
    for (int item = part; item < items; item += parts) {
      attend_row(layer, item / spec_.kv_heads, item % spec_.kv_heads, scratch);
    }
  });
}

// All query heads that share one head of keys and values.
void CpuDecoder::attend_row(int layer, int row, int kv_head, AttentionScratch& scratch) {
  const auto [blocks, position] = rows_[static_cast<std::size_t>(row)];
  const DecoderLayerSpec& kind = spec_.layers[static_cast<std::size_t>(layer)];
  const bool windowed = kind.attention == AttentionKind::sliding_window;
  const int first = windowed ? std::max(0, position - kind.window_tokens + 1) : 0;

  scratch.runs.clear();
  for (int at = first; at <= position;) {
    const int in_block = at % kBlockTokens;
    const int count = std::min(kBlockTokens - in_block, position + 1 - at);
    const BlockId block = blocks[at / kBlockTokens];
    const std::size_t offset = offset_of(in_block, spec_.head_dim);
    scratch.runs.push_back(
        {kv_.keys(block, layer, kv_head) + offset, kv_.values(block, layer, kv_head) + offset, count});
    at += count;
  }

  const int group = spec_.heads / spec_.kv_heads;
  const float* queries =
      projected_.data() + offset_of(row, layers_[static_cast<std::size_t>(layer)].query_key_value.rows);
  float* out = mixed_.data() + offset_of(row, spec_.heads * spec_.head_dim);
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    const std::size_t offset = offset_of(head, spec_.head_dim);
    attend(queries + offset, scratch, static_cast<std::size_t>(spec_.head_dim), spec_.head_dim, out + offset);
  }
}

void CpuDecoder::feed_forward_block(int layer) {
  const Layer& weights = layers_[static_cast<std::size_t>(layer)];
  const int rows = static_cast<int>(rows_.size());
  normalise_rows(weights.mlp_norm);
  project(*team_, normed_, rows, weights.gate_up, weights.gate_up_bias, projected_);
  const auto intermediate = static_cast<std::size_t>(spec_.intermediate);
  mixed_.resize(static_cast<std::size_t>(rows) * intermediate);
  team_->parallel_for(rows, [&](int begin, int end) {
    for (int row = begin; row < end; ++row) {
      float* gate = projected_.data() + offset_of(row, 2 * spec_.intermediate);
      kernels().activate(spec_.activation, gate, intermediate);
      kernels().multiply(gate, gate + intermediate, intermediate);
      std::copy_n(gate, spec_.intermediate, mixed_.data() + offset_of(row, spec_.intermediate));
    }
  });
  project(*team_, mixed_, rows, weights.down, weights.down_bias, update_);
  add_to_stream(update_);
}

void CpuDecoder::normalise_rows(const WeightMatrix& norm) {
  normed_.resize(stream_.size());
  team_->parallel_for(static_cast<int>(rows_.size()), [&](int begin, int end) {
    for (int row = begin; row < end; ++row) {
      const std::size_t at = offset_of(row, spec_.hidden);
      kernels().rms_norm(stream_.data() + at, norm.data(), spec_.norm_epsilon, spec_.hidden, normed_.data() + at);
    }
  });
}

void CpuDecoder::add_to_stream(const std::vector<float>& terms) {
  kernels().add(stream_.data(), terms.data(), stream_.size());
}

void CpuDecoder::finish(const StepPlan& plan) {
  std::vector<RowResult> results(plan.wanted.size());
  for (std::size_t begin = 0; begin < plan.wanted.size(); begin += kHeadRows) {
    finish_rows(plan, begin, std::min(plan.wanted.size(), begin + kHeadRows), results);
  }
  last_step_.assign(plan.wanted.size(), {});
  for (std::size_t i = 0; i < last_step_.size(); ++i) last_step_[i].token = results[i].token;
  result_ = StepResult{std::move(results)};
}

void CpuDecoder::finish_rows(const StepPlan& plan, std::size_t begin, std::size_t end,
                             std::vector<RowResult>& results) {
  const auto count = static_cast<int>(end - begin);
  const auto wanted = [&](int i) -> const WantedRow& { return plan.wanted[begin + static_cast<std::size_t>(i)]; };
  bool any_logits = false;
  for (int i = 0; i < count; ++i) {
    any_logits = any_logits || wants_logits(wanted(i));
    kernels().rms_norm(stream_.data() + offset_of(wanted(i).row, spec_.hidden), final_norm_.data(), spec_.norm_epsilon,
                       spec_.hidden, normed_.data() + offset_of(i, spec_.hidden));
  }
  if (any_logits) project(*team_, normed_, count, spec_.tied_head ? embedding_ : head_, {}, logits_);
  team_->parallel_for(count, [&](int first, int last) {
    for (int i = first; i < last; ++i) {
      std::span<const float> logits, hidden;
      if (wants_logits(wanted(i))) {
        logits = {logits_.data() + offset_of(i, spec_.vocabulary), static_cast<std::size_t>(spec_.vocabulary)};
      }
      if (wanted(i).hidden) {
        hidden = {normed_.data() + offset_of(i, spec_.hidden), static_cast<std::size_t>(spec_.hidden)};
      }
      results[begin + static_cast<std::size_t>(i)] = sample_row(logits, hidden, wanted(i));
    }
  });
}

}  // namespace cortex

#include "backend/cpu/decoder.h"

#include <algorithm>

#include "backend/cpu/kernels.h"
#include "backend/plan_check.h"
#include "backend/sampler.h"
#include "base/error.h"

namespace cortex {
namespace {

// Wanted rows that pass the head together: enough to share its weights, few enough for the logits to stay small.
constexpr std::size_t kHeadRows = 64;

std::size_t elements_of(const DecoderSpec& spec) {
  const auto hidden = static_cast<std::size_t>(spec.hidden);
  const std::size_t attention =
      static_cast<std::size_t>(2 * spec.heads + 2 * spec.kv_heads) * static_cast<std::size_t>(spec.head_dim) * hidden;
  const std::size_t feed_forward = 3 * static_cast<std::size_t>(spec.intermediate) * hidden;
  const ExpertsSpec mixture = spec.experts.value_or(ExpertsSpec{});
  const std::size_t experts =
      static_cast<std::size_t>(mixture.count) * (3 * static_cast<std::size_t>(mixture.intermediate) + 1) * hidden;
  std::size_t elements = hidden * static_cast<std::size_t>(spec.vocabulary) * (spec.tied_head ? 1 : 2);
  for (const DecoderLayerSpec& layer : spec.layers) elements += attention + (layer.experts ? experts : feed_forward);
  return elements;
}

WeightMatrix read_norm(const std::optional<Weight>& weight, WeightReader& reader) {
  return weight ? reader.read_vector(*weight) : WeightMatrix{};
}

std::variant<CpuFeedForward, CpuExperts> read_mlp(const DecoderSpec& spec, bool experts,
                                                  const DecoderLayerWeights& weights, WeightReader& reader) {
  if (experts) return CpuExperts(spec.experts.value(), spec.activation, weights, reader);
  return CpuFeedForward(spec.activation, LinearView(weights.gate.value(), weights.gate_bias),
                        {weights.up.value(), weights.up_bias}, {weights.down.value(), weights.down_bias}, reader);
}

}  // namespace

CpuDecoder::CpuDecoder(const DecoderSpec& spec, const DecoderWeights& weights, const LoadProgress& progress,
                       std::shared_ptr<ThreadTeam> team)
    : spec_(spec),
      team_(std::move(team)),
      kv_(static_cast<int>(spec.layers.size()), spec.kv_heads, spec.head_dim),
      rotary_(spec.rope),
      scratch_(static_cast<std::size_t>(team_->size())) {
  if (spec.window_rope) window_rotary_.emplace(*spec.window_rope);
  WeightReader reader(elements_of(spec), progress);
  embedding_ = read_projection(reader, {weights.embedding});
  for (const DecoderLayerWeights& layer : weights.layers) {
    layers_.push_back(read_layer(static_cast<int>(layers_.size()), layer, reader));
  }
  final_norm_ = reader.read_vector(weights.final_norm);
  if (weights.head) head_ = read_projection(reader, {*weights.head});
  weight_bytes_ = reader.read_bytes();
}

CpuDecoder::Layer CpuDecoder::read_layer(int layer, const DecoderLayerWeights& weights, WeightReader& reader) const {
  return {
      .attention_norms = {read_norm(weights.attention_norm, reader), read_norm(weights.attention_post_norm, reader)},
      .mlp_norms = {read_norm(weights.mlp_norm, reader), read_norm(weights.mlp_post_norm, reader)},
      .query_key_value = read_projection(
          reader,
          {{weights.query, weights.query_bias}, {weights.key, weights.key_bias}, {weights.value, weights.value_bias}}),
      .output = read_projection(reader, {{weights.output, weights.output_bias}}),
      .query_norm = read_norm(weights.query_norm, reader),
      .key_norm = read_norm(weights.key_norm, reader),
      .mlp = read_mlp(spec_, spec_.layers[static_cast<std::size_t>(layer)].experts, weights, reader)};
}

bool CpuDecoder::windowed(int layer) const {
  return spec_.layers[static_cast<std::size_t>(layer)].attention == AttentionKind::sliding_window;
}

void CpuDecoder::submit(const StepPlan& plan) {
  check_plan(plan, {.vocabulary = spec_.vocabulary,
                    .context_tokens = spec_.context_tokens,
                    .kv_blocks = kv_.blocks(),
                    .last_step = last_step_});
  result_.reset();
  lay_out(plan);
  embed(resolved_tokens(plan, last_step_));
  const int rows = static_cast<int>(rows_.size());
  for (int index = 0; index < static_cast<int>(layers_.size()); ++index) {
    const Layer& layer = layers_[static_cast<std::size_t>(index)];
    attention(index, normalised(layer.attention_norms.before));
    add_to_stream(layer.attention_norms.after);
    const std::vector<float>& in = normalised(layer.mlp_norms.before);
    std::visit([&](const auto& mlp) { mlp.run(*team_, in, rows, buffers_, update_); }, layer.mlp);
    add_to_stream(layer.mlp_norms.after);
  }
  finish(plan);
}

void CpuDecoder::collect(StepResult* result) {
  CORTEX_CHECK(result_.has_value());
  *result = std::move(*result_);
  result_.reset();
}

std::size_t CpuDecoder::memory_bytes() const {
  std::size_t scratch = buffers_.memory_bytes() + rotary_.memory_bytes();
  if (window_rotary_) scratch += window_rotary_->memory_bytes();
  for (const auto* buffer : {&stream_, &normed_, &update_, &logits_}) scratch += buffer->capacity() * sizeof(float);
  return weight_bytes_ + kv_.memory_bytes() + scratch;
}

void CpuDecoder::lay_out(const StepPlan& plan) {
  rows_.clear();
  std::vector<int> positions;
  for (const SequenceSlice& slice : plan.slices) {
    for (int i = 0; i < slice.rows; ++i) {
      rows_.push_back({slice.blocks.data(), slice.start + i});
      positions.push_back(slice.start + i);
    }
  }
  rotary_.lay_out(positions);
  if (window_rotary_) window_rotary_->lay_out(positions);
}

void CpuDecoder::embed(const std::vector<TokenId>& tokens) {
  stream_.resize(tokens.size() * static_cast<std::size_t>(spec_.hidden));
  for (std::size_t row = 0; row < tokens.size(); ++row) {
    const float* from = embedding_.weight.row(tokens[row]);
    std::transform(from, from + spec_.hidden, stream_.data() + row * static_cast<std::size_t>(spec_.hidden),
                   [&](float value) { return value * spec_.embedding_scale; });
  }
}

void CpuDecoder::attention(int layer, const std::vector<float>& in) {
  const Layer& weights = layers_[static_cast<std::size_t>(layer)];
  const int rows = static_cast<int>(rows_.size());
  project(*team_, in, rows, weights.query_key_value, buffers_.projected);
  team_->parallel_for(rows, [&](int begin, int end) { place_keys_values(layer, begin, end); });
  attend_rows(layer);
  project(*team_, buffers_.mixed, rows, weights.output, update_);
}

// Normalises queries and keys, turns them by their positions and puts keys and values where their blocks are.
void CpuDecoder::place_keys_values(int layer, int begin, int end) {
  const Layer& weights = layers_[static_cast<std::size_t>(layer)];
  const RotaryTable& rotary = windowed(layer) && window_rotary_ ? *window_rotary_ : rotary_;
  for (int row = begin; row < end; ++row) {
    float* heads = buffers_.projected.data() + offset_of(row, weights.query_key_value.weight.rows);
    normalise_heads(heads, spec_.heads, weights.query_norm);
    normalise_heads(heads + offset_of(spec_.heads, spec_.head_dim), spec_.kv_heads, weights.key_norm);
    rotary.turn(heads, spec_.heads + spec_.kv_heads, spec_.head_dim, row);
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

void CpuDecoder::normalise_heads(float* first, int heads, const WeightMatrix& norm) const {
  if (norm.rows == 0) return;
  const int size = norm.columns;  // a head's, or all heads'
  for (float* part = first; part < first + offset_of(heads, spec_.head_dim); part += size) {
    kernels().rms_norm(part, norm.data(), spec_.norm_epsilon, size, part);
  }
}

// Later rows see more, so rows are dealt out in turn rather than cut into runs.
void CpuDecoder::attend_rows(int layer) {
  const int items = static_cast<int>(rows_.size()) * spec_.kv_heads;
  buffers_.mixed.resize(rows_.size() * offset_of(spec_.heads, spec_.head_dim));
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
  const int first = windowed(layer) ? std::max(0, position - kind.window_tokens + 1) : 0;

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
      buffers_.projected.data() + offset_of(row, layers_[static_cast<std::size_t>(layer)].query_key_value.weight.rows);
  float* out = buffers_.mixed.data() + offset_of(row, spec_.heads * spec_.head_dim);
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    const std::size_t offset = offset_of(head, spec_.head_dim);
    attend(queries + offset, scratch, static_cast<std::size_t>(spec_.head_dim), spec_.head_dim, spec_.score_scale(),
           out + offset);
  }
}

const std::vector<float>& CpuDecoder::normalised(const WeightMatrix& norm) {
  if (norm.rows == 0) return stream_;
  normed_.resize(stream_.size());
  team_->parallel_for(static_cast<int>(rows_.size()), [&](int begin, int end) {
    for (int row = begin; row < end; ++row) {
      const std::size_t at = offset_of(row, spec_.hidden);
      kernels().rms_norm(stream_.data() + at, norm.data(), spec_.norm_epsilon, spec_.hidden, normed_.data() + at);
    }
  });
  return normed_;
}

void CpuDecoder::add_to_stream(const WeightMatrix& norm) {
  if (norm.rows > 0) {
    team_->parallel_for(static_cast<int>(rows_.size()), [&](int begin, int end) {
      for (int row = begin; row < end; ++row) {
        float* x = update_.data() + offset_of(row, spec_.hidden);
        kernels().rms_norm(x, norm.data(), spec_.norm_epsilon, spec_.hidden, x);
      }
    });
  }
  kernels().add(stream_.data(), update_.data(), stream_.size());
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
  normed_.resize(std::max(normed_.size(), offset_of(count, spec_.hidden)));
  bool any_logits = false;
  for (int i = 0; i < count; ++i) {
    any_logits = any_logits || wants_logits(wanted(i));
    kernels().rms_norm(stream_.data() + offset_of(wanted(i).row, spec_.hidden), final_norm_.data(), spec_.norm_epsilon,
                       spec_.hidden, normed_.data() + offset_of(i, spec_.hidden));
  }
  if (any_logits) project(*team_, normed_, count, spec_.tied_head ? embedding_ : head_, logits_);
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

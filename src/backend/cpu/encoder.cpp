#include "backend/cpu/encoder.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "backend/cpu/kernels.h"
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

WeightMatrix read_table(const std::optional<Weight>& weight, WeightReader& reader) {
  return weight ? reader.read(*weight) : WeightMatrix{};
}

}  // namespace

CpuEncoder::CpuEncoder(const EncoderSpec& spec, const EncoderWeights& weights, const LoadProgress& progress,
                       std::shared_ptr<ThreadTeam> team)
    : spec_(spec), team_(std::move(team)), rotary_(spec.rope), scratch_(static_cast<std::size_t>(team_->size())) {
  if (spec.window_rope) window_rotary_.emplace(*spec.window_rope);
  WeightReader reader(elements_of(spec), progress);
  token_embedding_ = reader.read(weights.token_embedding);
  position_embedding_ = read_table(weights.position_embedding, reader);
  type_embedding_ = read_table(weights.type_embedding, reader);
  embedding_norm_ = read_norm(weights.embedding_norm, reader);
  for (const EncoderLayerWeights& layer : weights.layers) layers_.push_back(read_layer(layer, reader));
  final_norm_ = read_norm(weights.final_norm, reader);
  if (spec.head) head_ = read_head(weights.head.value(), reader);
  weight_bytes_ = reader.read_bytes();
}

CpuEncoder::Norm CpuEncoder::read_norm(const LayerNorm& norm, WeightReader& reader) {
  Norm read{.weight = reader.read_vector(norm.weight), .bias = {}};
  if (norm.bias) {
    read.bias = reader.read_vector(*norm.bias);
  } else {
    read.bias = {.values = MappedMemory(read.weight.values.size_bytes()), .rows = 1, .columns = read.weight.columns};
  }
  return read;
}

std::optional<CpuEncoder::Norm> CpuEncoder::read_norm(const std::optional<LayerNorm>& norm, WeightReader& reader) {
  return norm ? std::optional(read_norm(*norm, reader)) : std::nullopt;
}

CpuEncoder::Layer CpuEncoder::read_layer(const EncoderLayerWeights& weights, WeightReader& reader) const {
  const std::optional<LinearView> gate = weights.gate ? std::optional<LinearView>(*weights.gate) : std::nullopt;
  return {.attention_norm = read_norm(weights.attention_norm, reader),
          .query_key_value = read_projection(reader, {weights.query, weights.key, weights.value}),
          .output = read_projection(reader, {weights.output}),
          .mlp_norm = read_norm(weights.mlp_norm, reader),
          .mlp = CpuFeedForward(spec_.activation, gate, weights.up, weights.down, reader)};
}

CpuEncoder::Head CpuEncoder::read_head(const EncoderHeadWeights& weights, WeightReader& reader) {
  Head head{.dense = {}, .norm = read_norm(weights.norm, reader), .out = read_projection(reader, {weights.out})};
  if (weights.dense) head.dense = read_projection(reader, {*weights.dense});
  return head;
}

void CpuEncoder::encode(const PackedTexts& texts, EncodeResult* result) {
  check_texts(texts, spec_);
  const int rows = static_cast<int>(texts.tokens.size());
  lay_out(texts);
  embed(texts);
  for (int index = 0; index < static_cast<int>(layers_.size()); ++index) {
    const Layer& layer = layers_[static_cast<std::size_t>(index)];
    if (spec_.pre_norm) {
      if (layer.attention_norm) normalise(*layer.attention_norm, stream_, normed_);
      attention(index, layer.attention_norm ? normed_ : stream_);
      add_to_stream();
      normalise(layer.mlp_norm, stream_, normed_);
      layer.mlp.run(*team_, normed_, rows, buffers_, update_);
      add_to_stream();
    } else {
      attention(index, stream_);
      add_and_normalise(layer.attention_norm.value());
      layer.mlp.run(*team_, stream_, rows, buffers_, update_);
      add_and_normalise(layer.mlp_norm);
    }
  }
  if (final_norm_) normalise(*final_norm_, stream_, stream_);
  result->dimensions = spec_.head ? spec_.head->labels : spec_.hidden;
  pool(texts, result->pooled);
  if (head_) result->pooled = classify(std::move(result->pooled));
  result->hidden = texts.hidden ? stream_ : std::vector<float>{};
}

std::size_t CpuEncoder::memory_bytes() const {
  std::size_t scratch = buffers_.memory_bytes() + rotary_.memory_bytes();
  if (window_rotary_) scratch += window_rotary_->memory_bytes();
  for (const auto* buffer : {&stream_, &normed_, &update_}) scratch += buffer->capacity() * sizeof(float);
  return weight_bytes_ + scratch;
}

void CpuEncoder::lay_out(const PackedTexts& texts) {
  rows_.clear();
  std::vector<int> positions;
  for (std::size_t text = 0; text + 1 < texts.starts.size(); ++text) {
    const int begin = texts.starts[text], end = texts.starts[text + 1];
    for (int row = begin; row < end; ++row) {
      rows_.push_back({begin, end});
      positions.push_back(row - begin);
    }
  }
  if (spec_.positions > 0) return;
  rotary_.lay_out(positions);
  if (window_rotary_) window_rotary_->lay_out(positions);
}

void CpuEncoder::embed(const PackedTexts& texts) {
  const auto hidden = static_cast<std::size_t>(spec_.hidden);
  stream_.resize(rows_.size() * hidden);
  for (std::size_t row = 0; row < rows_.size(); ++row) {
    float* out = stream_.data() + row * hidden;
    std::copy_n(token_embedding_.row(texts.tokens[row]), hidden, out);
    if (spec_.token_types > 0) {
      kernels().add(out, type_embedding_.row(texts.types.empty() ? 0 : texts.types[row]), hidden);
    }
    if (spec_.positions > 0) {
      kernels().add(out, position_embedding_.row(static_cast<int>(row) - rows_[row].begin), hidden);
    }
  }
  normalise(embedding_norm_, stream_, stream_);
}

void CpuEncoder::attention(int layer, const std::vector<float>& in) {
  const Layer& weights = layers_[static_cast<std::size_t>(layer)];
  const EncoderLayerSpec& kind = spec_.layers[static_cast<std::size_t>(layer)];
  const int rows = static_cast<int>(rows_.size());
  project(*team_, in, rows, weights.query_key_value, buffers_.projected);
  if (spec_.positions == 0) turn_rows(kind.attention == AttentionKind::sliding_window);
  attend_rows(kind);
  project(*team_, buffers_.mixed, rows, weights.output, update_);
}

void CpuEncoder::turn_rows(bool windowed) {
  const RotaryTable& rotary = windowed && window_rotary_ ? *window_rotary_ : rotary_;
  const int width = 3 * spec_.heads * spec_.head_dim;
  team_->parallel_for(static_cast<int>(rows_.size()), [&](int begin, int end) {
    for (int row = begin; row < end; ++row) {
      rotary.turn(buffers_.projected.data() + offset_of(row, width), 2 * spec_.heads, spec_.head_dim, row);
    }
  });
}

void CpuEncoder::attend_rows(const EncoderLayerSpec& layer) {
  const int rows = static_cast<int>(rows_.size());
  buffers_.mixed.resize(offset_of(rows, spec_.heads * spec_.head_dim));
  const int parts = std::min(rows, static_cast<int>(scratch_.size()));
  team_->run(parts, [&](int part) {
    for (int row = part; row < rows; row += parts) {
      auto [begin, end] = rows_[static_cast<std::size_t>(row)];
      if (layer.attention == AttentionKind::sliding_window) {
        begin = row - std::min(row - begin, layer.reach_tokens);
        end = row + 1 + std::min(end - row - 1, layer.reach_tokens);
      }
      attend_row(row, begin, end, scratch_[static_cast<std::size_t>(part)]);
    }
  });
}

// All heads of one row over the rows [begin, end) of its text.
void CpuEncoder::attend_row(int row, int begin, int end, AttentionScratch& scratch) {
  const int width = spec_.heads * spec_.head_dim;
  const std::size_t stride = offset_of(3, width);
  const float scale = 1.0f / std::sqrt(static_cast<float>(spec_.head_dim));
  const float* projected = buffers_.projected.data();
  scratch.runs.resize(1);
  for (int head = 0; head < spec_.heads; ++head) {
    const std::size_t offset = offset_of(head, spec_.head_dim);
    const float* first = projected + static_cast<std::size_t>(begin) * stride + offset;
    const float* query = projected + static_cast<std::size_t>(row) * stride + offset;
    scratch.runs[0] = {first + width, first + offset_of(2, width), end - begin};
    attend(query, scratch, stride, spec_.head_dim, scale, buffers_.mixed.data() + offset_of(row, width) + offset);
  }
}

void CpuEncoder::add_to_stream() { kernels().add(stream_.data(), update_.data(), stream_.size()); }

void CpuEncoder::add_and_normalise(const Norm& norm) {
  add_to_stream();
  normalise(norm, stream_, stream_);
}

void CpuEncoder::normalise(const Norm& norm, const std::vector<float>& in, std::vector<float>& out) {
  out.resize(in.size());
  team_->parallel_for(static_cast<int>(in.size()) / spec_.hidden, [&](int begin, int end) {
    for (int row = begin; row < end; ++row) {
      const std::size_t at = offset_of(row, spec_.hidden);
      kernels().layer_norm(in.data() + at, norm.weight.data(), norm.bias.data(), spec_.norm_epsilon, spec_.hidden,
                           out.data() + at);
    }
  });
}

std::vector<float> CpuEncoder::classify(std::vector<float> pooled) {
  const int texts = static_cast<int>(pooled.size()) / spec_.hidden;
  std::vector<float> out;
  if (head_->dense) {
    project(*team_, pooled, texts, *head_->dense, out);
    kernels().activate(spec_.head->activation, out.data(), out.size());
    pooled.swap(out);
  }
  if (head_->norm) normalise(*head_->norm, pooled, pooled);
  project(*team_, pooled, texts, head_->out, out);
  return out;
}

void CpuEncoder::pool(const PackedTexts& texts, std::vector<float>& pooled) const {
  const std::size_t count = texts.starts.size() - 1;
  const auto hidden = static_cast<std::size_t>(spec_.hidden);
  pooled.assign(count * hidden, 0.0f);
  for (std::size_t text = 0; text < count; ++text) {
    const int begin = texts.starts[text];
    const int end = texts.starts[text + 1];
    float* out = pooled.data() + text * hidden;
    switch (spec_.head ? spec_.head->pooling : spec_.pooling) {
      case Pooling::cls:
        std::copy_n(stream_.data() + offset_of(begin, spec_.hidden), hidden, out);
        break;
      case Pooling::last_token:
        std::copy_n(stream_.data() + offset_of(end - 1, spec_.hidden), hidden, out);
        break;
      case Pooling::mean:
        for (int row = begin; row < end; ++row)
          kernels().add(out, stream_.data() + offset_of(row, spec_.hidden), hidden);
        for (std::size_t i = 0; i < hidden; ++i) out[i] /= static_cast<float>(end - begin);
        break;
    }
  }
}

}  // namespace cortex

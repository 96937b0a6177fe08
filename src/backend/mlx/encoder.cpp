#include "backend/mlx/encoder.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "backend/mlx/checked_ids.h"
#include "backend/plan_check.h"
#include "base/error.h"

namespace cortex {
namespace {

constexpr int kWholeText = -1;  // for a reach

int reach_of(const EncoderLayerSpec& layer) {
  return layer.attention == AttentionKind::sliding_window ? layer.reach_tokens : kWholeText;
}

// Of every row in its text, [T].
std::vector<std::int32_t> positions_of(std::span<const std::int32_t> starts) {
  std::vector<std::int32_t> positions;
  for (std::size_t text = 0; text + 1 < starts.size(); ++text) {
    for (std::int32_t row = starts[text]; row < starts[text + 1]; ++row) positions.push_back(row - starts[text]);
  }
  return positions;
}

MlxFeedForward load_mlp(Activation activation, const EncoderLayerWeights& weights) {
  if (weights.gate) return MlxFeedForward(activation, *weights.gate, weights.up, weights.down);
  return MlxFeedForward(activation, weights.up, weights.down);
}

std::optional<mx::array> load_table(const std::optional<Weight>& weight) {
  return weight ? std::optional(load_array(*weight)) : std::nullopt;
}

std::optional<MlxLayerNorm> load_norm(const std::optional<LayerNorm>& norm, float epsilon) {
  return norm ? std::optional(MlxLayerNorm(*norm, epsilon)) : std::nullopt;
}

// One vector of a text's token states, `hidden` [T, dimensions] on the host, tokens [begin, end).
void pool_text(Pooling pooling, const mx::array& hidden, int begin, int end, std::span<float> out) {
  if (pooling != Pooling::mean) {
    const std::span<const float> state = host_row(hidden, pooling == Pooling::cls ? begin : end - 1);
    std::copy(state.begin(), state.end(), out.begin());
    return;
  }
  std::vector<double> sums(out.size());
  for (int token = begin; token < end; ++token) {
    const std::span<const float> state = host_row(hidden, token);
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += static_cast<double>(state[i]);
  }
  for (std::size_t i = 0; i < sums.size(); ++i) out[i] = static_cast<float>(sums[i] / (end - begin));
}

}  // namespace

MlxEncoder::Layer::Layer(const EncoderSpec& spec, const EncoderLayerWeights& weights)
    : attention_norm(load_norm(weights.attention_norm, spec.norm_epsilon)),
      query_key_value({weights.query, weights.key, weights.value}),
      output({LinearView(weights.output)}),
      mlp_norm(weights.mlp_norm, spec.norm_epsilon),
      mlp(load_mlp(spec.activation, weights)) {}

std::size_t MlxEncoder::Layer::bytes() const {
  return bytes_of(attention_norm) + query_key_value.bytes() + output.bytes() + mlp_norm.bytes() + mlp.bytes();
}

MlxEncoder::Head::Head(const EncoderSpec& spec, const EncoderHeadWeights& weights)
    : norm(load_norm(weights.norm, spec.norm_epsilon)), out({LinearView(weights.out)}) {
  if (weights.dense) dense = MlxLinear({LinearView(*weights.dense)});
}

std::size_t MlxEncoder::Head::bytes() const { return bytes_of(dense) + bytes_of(norm) + out.bytes(); }

MlxEncoder::MlxEncoder(const EncoderSpec& spec, const EncoderWeights& weights, const LoadProgress& progress)
    : spec_(spec),
      token_embedding_(load_array(weights.token_embedding)),
      position_embedding_(load_table(weights.position_embedding)),
      type_embedding_(load_table(weights.type_embedding)),
      embedding_norm_(weights.embedding_norm, spec.norm_epsilon),
      final_norm_(load_norm(weights.final_norm, spec.norm_epsilon)) {
  if (spec.head) head_.emplace(spec, weights.head.value());
  weight_bytes_ = token_embedding_.nbytes() + embedding_norm_.bytes() + bytes_of(final_norm_) + bytes_of(head_);
  for (const auto* table : {&position_embedding_, &type_embedding_}) {
    if (*table) weight_bytes_ += (*table)->nbytes();
  }
  for (const EncoderLayerWeights& layer : weights.layers) {
    weight_bytes_ += layers_.emplace_back(spec, layer).bytes();
    if (progress) progress(static_cast<double>(layers_.size()) / static_cast<double>(weights.layers.size()));
  }
}

std::vector<MlxEncoder::Tile> MlxEncoder::tiles_of(std::span<const std::int32_t> starts, int reach_tokens) {
  std::vector<Tile> tiles;
  for (std::size_t text = 0; text + 1 < starts.size(); ++text) {
    const int first = starts[text], last = starts[text + 1];
    for (int begin = first; begin < last; begin += kTileRows) {
      Tile& tile = tiles.emplace_back(Tile{.begin = begin, .end = std::min(begin + kTileRows, last)});
      const int reach = reach_tokens == kWholeText ? last - first : std::min(reach_tokens, last - first);
      tile.keys_begin = std::max(first, begin - reach);
      tile.keys_end = std::min(last, tile.end + reach);
      if (last - first > reach + 1) {
        tile.mask = reach_mask(begin, tile.end - begin, tile.keys_begin, tile.keys_end - tile.keys_begin, reach, reach);
      }
    }
  }
  return tiles;
}

MlxEncoder::Layouts MlxEncoder::lay_out(std::span<const std::int32_t> starts,
                                        std::span<const std::int32_t> positions) const {
  Layouts layouts;
  for (const EncoderLayerSpec& layer : spec_.layers) {
    const int reach = reach_of(layer);
    if (layouts.contains(reach)) continue;
    RowLayout& layout = layouts[reach];
    layout.tiles = tiles_of(starts, reach);
    const bool windowed = reach != kWholeText && spec_.window_rope;
    if (spec_.positions == 0) layout.rotary = rotary_rows(windowed ? *spec_.window_rope : spec_.rope, positions);
  }
  return layouts;
}

mx::array MlxEncoder::embed(const PackedTexts& texts, std::span<const std::int32_t> positions) const {
  mx::array x = take(token_embedding_, CheckedIds(texts.tokens, spec_.vocabulary), 0);
  if (type_embedding_) {
    const std::vector<std::int32_t> types =
        texts.types.empty() ? std::vector<std::int32_t>(texts.tokens.size()) : texts.types;
    x = x + take(*type_embedding_, CheckedIds(types, spec_.token_types), 0);
  }
  if (position_embedding_) x = x + take(*position_embedding_, CheckedIds(positions, spec_.positions), 0);
  return embedding_norm_(x);
}

mx::array MlxEncoder::attention(const Layer& layer, const mx::array& x, const RowLayout& layout) const {
  const mx::array qkv = mx::reshape(layer.query_key_value(x), {x.shape(0), 3 * spec_.heads, spec_.head_dim});
  const auto part = [&](int index) { return columns(qkv, index * spec_.heads, (index + 1) * spec_.heads); };
  const mx::array v = part(2);
  const mx::array q = layout.rotary ? turn(part(0), *layout.rotary) : part(0);
  const mx::array k = layout.rotary ? turn(part(1), *layout.rotary) : part(1);
  const float scale = 1.0f / std::sqrt(static_cast<float>(spec_.head_dim));
  std::vector<mx::array> attended;
  for (const Tile& tile : layout.tiles) {
    const auto heads_first = [&](const mx::array& heads) {
      return mx::expand_dims(mx::transpose(rows(heads, tile.keys_begin, tile.keys_end), {1, 0, 2}), 0);
    };
    attended.push_back(attend(rows(q, tile.begin, tile.end), heads_first(k), heads_first(v), scale, false, tile.mask));
  }
  return layer.output(mx::concatenate(attended, 0));
}

mx::array MlxEncoder::body(const PackedTexts& texts) const {
  const std::vector<std::int32_t> positions = positions_of(texts.starts);
  const Layouts layouts = lay_out(texts.starts, positions);
  mx::array x = embed(texts, positions);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const RowLayout& layout = layouts.at(reach_of(spec_.layers[i]));
    if (spec_.pre_norm) {
      x = x + attention(layer, layer.attention_norm ? (*layer.attention_norm)(x) : x, layout);
      x = x + layer.mlp(layer.mlp_norm(x));
    } else {
      x = layer.attention_norm.value()(x + attention(layer, x, layout));
      x = layer.mlp_norm(x + layer.mlp(x));
    }
  }
  return final_norm_ ? (*final_norm_)(x) : x;
}

std::vector<float> MlxEncoder::classify(const std::vector<float>& pooled) const {
  mx::array x(pooled.data(), {static_cast<int>(pooled.size()) / spec_.hidden, spec_.hidden}, kDtype);
  if (head_->dense) x = activate(spec_.head->activation, (*head_->dense)(x));
  if (head_->norm) x = (*head_->norm)(x);
  x = mx::contiguous(head_->out(x));
  x.eval();
  return {x.data<float>(), x.data<float>() + x.size()};
}

void MlxEncoder::encode(const PackedTexts& texts, EncodeResult* result) {
  check_texts(texts, spec_);
  const std::size_t count = texts.starts.size() - 1;
  const auto dimensions = static_cast<std::size_t>(spec_.hidden);
  result->dimensions = spec_.head ? spec_.head->labels : spec_.hidden;
  result->hidden.clear();
  result->pooled.assign(count * dimensions, 0.0f);
  if (count == 0) return;
  try {
    mx::array hidden = body(texts);
    hidden.eval();
    for (std::size_t text = 0; text < count; ++text) {
      pool_text(spec_.head ? spec_.head->pooling : spec_.pooling, hidden, texts.starts[text], texts.starts[text + 1],
                std::span(result->pooled).subspan(text * dimensions, dimensions));
    }
    if (head_) result->pooled = classify(result->pooled);
    if (texts.hidden) {
      const float* states = host_row(hidden, 0).data();
      result->hidden.assign(states, states + hidden.size());
    }
  } catch (const CheckFailure&) {
    throw;
  } catch (const std::exception& failure) {
    throw Error(ErrorCode::model_failed, fmt::format("the MLX device failed: {}", failure.what()));
  }
}

}  // namespace cortex

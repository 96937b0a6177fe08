#include "backend/mlx/encoder.h"

#include <fmt/core.h>

#include "backend/mlx/checked_ids.h"
#include "backend/plan_check.h"
#include "base/error.h"

namespace cortex {
namespace {

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

MlxEncoder::Norm::Norm(const LayerNorm& weights) : weight(load_array(weights.weight)), bias(load_array(weights.bias.value())) {}

MlxEncoder::Layer::Layer(const EncoderLayerWeights& weights)
    : query_key_value({&weights.query.weight, &weights.key.weight, &weights.value.weight},
                      {&weights.query.bias.value(), &weights.key.bias.value(), &weights.value.bias.value()}),
      output({&weights.output.weight}, {&weights.output.bias.value()}),
      up({&weights.up.weight}, {&weights.up.bias.value()}),
      down({&weights.down.weight}, {&weights.down.bias.value()}),
      attention_norm(weights.attention_norm.value()),
      mlp_norm(weights.mlp_norm) {}

std::size_t MlxEncoder::Layer::bytes() const {
  return query_key_value.bytes() + output.bytes() + up.bytes() + down.bytes() + 2 * attention_norm.weight.nbytes() +
         2 * mlp_norm.weight.nbytes();
}

MlxEncoder::MlxEncoder(const EncoderSpec& spec, const EncoderWeights& weights, const LoadProgress& progress)
    : spec_(spec),
      token_embedding_(load_array(weights.token_embedding)),
      position_embedding_(load_array(weights.position_embedding.value())),
      type_embedding_(load_array(weights.type_embedding.value())),
      embedding_norm_(weights.embedding_norm) {
  weight_bytes_ = token_embedding_.nbytes() + position_embedding_.nbytes() + type_embedding_.nbytes() +
                  2 * embedding_norm_.weight.nbytes();
  for (const EncoderLayerWeights& layer : weights.layers) {
    weight_bytes_ += layers_.emplace_back(layer).bytes();
    if (progress) progress(static_cast<double>(layers_.size()) / static_cast<double>(weights.layers.size()));
  }
}

mx::array MlxEncoder::normalised(const mx::array& x, const Norm& norm) const {
  return mx::fast::layer_norm(x, norm.weight, norm.bias, spec_.norm_epsilon);
}

mx::array MlxEncoder::embed(const PackedTexts& texts) const {
  std::vector<std::int32_t> positions;
  for (std::size_t text = 0; text + 1 < texts.starts.size(); ++text) {
    const std::int32_t length = texts.starts[text + 1] - texts.starts[text];
    for (std::int32_t position = 0; position < length; ++position) positions.push_back(position);
  }
  const std::vector<std::int32_t> types =
      texts.types.empty() ? std::vector<std::int32_t>(texts.tokens.size()) : texts.types;
  const mx::array words = take(token_embedding_, CheckedIds(texts.tokens, spec_.vocabulary), 0);
  const mx::array kinds = take(type_embedding_, CheckedIds(types, spec_.token_types), 0);
  const mx::array places = take(position_embedding_, CheckedIds(positions, spec_.positions), 0);
  return normalised(words + kinds + places, embedding_norm_);
}

mx::array MlxEncoder::attention(const Layer& layer, const mx::array& x, std::span<const std::int32_t> starts) const {
  const mx::array qkv = mx::reshape(layer.query_key_value(x), {x.shape(0), 3 * spec_.heads, spec_.head_dim});
  std::vector<mx::array> attended;
  for (std::size_t text = 0; text + 1 < starts.size(); ++text) {
    const mx::array mine = rows(qkv, starts[text], starts[text + 1]);
    const auto heads_first = [&](int part) {
      const mx::array heads = columns(mine, part * spec_.heads, (part + 1) * spec_.heads);
      return mx::expand_dims(mx::transpose(heads, {1, 0, 2}), 0);
    };
    attended.push_back(attend(columns(mine, 0, spec_.heads), heads_first(1), heads_first(2), false, std::nullopt));
  }
  return layer.output(mx::concatenate(attended, 0));
}

mx::array MlxEncoder::body(const PackedTexts& texts) const {
  mx::array x = embed(texts);
  for (const Layer& layer : layers_) {
    x = normalised(x + attention(layer, x, texts.starts), layer.attention_norm);
    x = normalised(x + layer.down(activate(spec_.activation, layer.up(x))), layer.mlp_norm);
  }
  return x;
}

void MlxEncoder::encode(const PackedTexts& texts, EncodeResult* result) {
  check_texts(texts, spec_);
  const std::size_t count = texts.starts.size() - 1;
  const std::size_t dimensions = static_cast<std::size_t>(spec_.hidden);
  result->dimensions = spec_.hidden;
  result->hidden.clear();
  result->pooled.assign(count * dimensions, 0.0f);
  if (count == 0) return;
  try {
    mx::array hidden = body(texts);
    hidden.eval();
    for (std::size_t text = 0; text < count; ++text) {
      pool_text(spec_.pooling, hidden, texts.starts[text], texts.starts[text + 1],
                std::span(result->pooled).subspan(text * dimensions, dimensions));
    }
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

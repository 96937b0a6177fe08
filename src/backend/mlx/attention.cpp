#include "backend/mlx/attention.h"

#include <vector>

namespace cortex {

MlxAttention::MlxAttention(const DecoderSpec& spec, int layer, const DecoderLayerWeights& weights)
    : layer_(layer),
      window_tokens_(window_of(spec.layers[static_cast<std::size_t>(layer)])),
      heads_(spec.heads),
      kv_heads_(spec.kv_heads),
      head_dim_(spec.head_dim),
      scale_(spec.score_scale()),
      norm_per_head_(spec.query_key_norm == QueryKeyNorm::per_head),
      query_key_value_(
          {{weights.query, weights.query_bias}, {weights.key, weights.key_bias}, {weights.value, weights.value_bias}}),
      output_({{weights.output, weights.output_bias}}),
      query_norm_(load_rms_norm(weights.query_norm, spec.norm_epsilon)),
      key_norm_(load_rms_norm(weights.key_norm, spec.norm_epsilon)) {}

std::size_t MlxAttention::bytes() const {
  return query_key_value_.bytes() + output_.bytes() + bytes_of(query_norm_) + bytes_of(key_norm_);
}

mx::array MlxAttention::normalised_heads(const mx::array& x, const MlxRmsNorm& norm) const {
  const mx::Shape heads{x.shape(0), -1, head_dim_};
  return norm_per_head_ ? norm(mx::reshape(x, heads)) : mx::reshape(norm(x), heads);
}

mx::array MlxAttention::queries_and_keys(const mx::array& projected) const {
  const int keys_at = heads_ * head_dim_;
  const int values_at = keys_at + kv_heads_ * head_dim_;
  if (!query_norm_) return mx::reshape(columns(projected, 0, values_at), {projected.shape(0), -1, head_dim_});
  return mx::concatenate({normalised_heads(columns(projected, 0, keys_at), *query_norm_),
                          normalised_heads(columns(projected, keys_at, values_at), key_norm_.value())},
                         1);
}

mx::array MlxAttention::operator()(const mx::array& x, const StepLayout& layout, PagedPool& pool) const {
  const RowLayout& kind = layout.kinds.at(window_tokens_);
  const int turned_heads = heads_ + kv_heads_;
  const mx::array qkv = query_key_value_(x);
  const mx::array qk = turn(queries_and_keys(qkv), kind.rotary);
  const mx::array q = columns(qk, 0, heads_);
  const mx::array k = columns(qk, heads_, turned_heads);
  const mx::array v = mx::reshape(columns(qkv, turned_heads * head_dim_, qkv.shape(1)), {x.shape(0), -1, head_dim_});
  pool.append(layer_, layout.slots, k, v);

  std::vector<mx::array> attended;
  for (const AttentionTile& tile : kind.tiles) {
    attended.push_back(attend(rows(q, tile.first_row, tile.first_row + tile.rows), pool.keys(layer_, tile.keys),
                              pool.values(layer_, tile.keys), scale_, tile.causal, tile.mask));
  }
  return output_(attended.size() == 1 ? attended.front() : mx::concatenate(attended, 0));
}

}  // namespace cortex

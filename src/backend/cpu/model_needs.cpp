#include "backend/cpu/model_needs.h"

#include <algorithm>
#include <variant>

#include "backend/cpu/attention_task.h"
#include "backend/cpu/decoder_layer.h"
#include "backend/cpu/encoder_parts.h"
#include "backend/cpu/kv_pool.h"
#include "backend/cpu/language_head.h"
#include "backend/cpu/weight_loader.h"
#include "backend/step_plan.h"

namespace cortex {
namespace {

constexpr int kMostHeadRows = 64;
constexpr int kHeadPart = 8;  // of a step's rows

// The largest that an InputRows becomes.
class InputNeeds {
 public:
  void add(int rows, const Projection& reader) {
    const std::size_t elements = static_cast<std::size_t>(rows) * static_cast<std::size_t>(reader.padded_columns());
    values_ = std::max(values_, elements);
    if (reader.products().has(Product::bf16)) halves_ = std::max(halves_, elements);
    if (reader.products().has(Product::int8)) codes_ = std::max(codes_, elements);
  }
  std::size_t bytes() const {
    constexpr std::size_t kGroupBytes = 2 * sizeof(float) + 2 * sizeof(std::int32_t);
    return values_ * sizeof(float) + halves_ * sizeof(std::uint16_t) + codes_ + codes_ / kBlockColumns * kGroupBytes;
  }

 private:
  std::size_t values_ = 0, halves_ = 0, codes_ = 0;
};

// What branches of `rows` rows compute in, whatever the layer.
struct BranchNeeds {
  int rows = 0;
  InputNeeds in, mixed, inner, gathered;
  std::size_t projected = 0, feed_forward = 0, experts = 0;  // floats

  void add_attention(const Projection& query_key_value, const Projection& output) {
    in.add(rows, query_key_value);
    mixed.add(rows, output);
    projected = std::max(projected, floats(query_key_value.outputs()));
  }
  void add(const CpuFeedForward& mlp) {
    in.add(rows, mlp.first());
    add_inner(mlp);
  }
  // All rows may choose the same expert.
  void add(const CpuExperts& mixture) {
    in.add(rows, mixture.first());
    for (const CpuFeedForward& expert : mixture.experts()) {
      gathered.add(rows, expert.first());
      experts = std::max(experts, floats(2 * mixture.first().outputs() + expert.outputs()));
      add_inner(expert);
    }
  }
  std::size_t bytes() const {
    return in.bytes() + mixed.bytes() + inner.bytes() + gathered.bytes() +
           (projected + feed_forward + experts) * sizeof(float);
  }

 private:
  std::size_t floats(int columns) const { return static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns); }
  void add_inner(const CpuFeedForward& mlp) {
    inner.add(rows, mlp.down());
    if (!mlp.first().activates()) feed_forward = std::max(feed_forward, floats(mlp.first().outputs()));
  }
};

// Cosines and sines of as many positions.
std::size_t rotary_bytes(int rows, const RopeSpec& rope, const std::optional<RopeSpec>& window_rope) {
  const int angles = rope.dims / 2 + (window_rope ? window_rope->dims / 2 : 0);
  return 2 * static_cast<std::size_t>(rows) * static_cast<std::size_t>(angles) * sizeof(float);
}

std::size_t row_bytes(int hidden) { return static_cast<std::size_t>(padded_rows(hidden)) * sizeof(float); }

}  // namespace

FloatPacking floats_in_layers(WeightPrecision precision, Arithmetic arithmetic) {
  if (arithmetic == Arithmetic::exact) return FloatPacking::f32;
  switch (precision) {
    case WeightPrecision::as_given:
      return FloatPacking::bf16;
    case WeightPrecision::bits_8:
      return FloatPacking::codes8;
    case WeightPrecision::bits_4:
      return FloatPacking::codes4;
  }
  CORTEX_CHECK(false);
}

FloatPacking floats_outside_layers(WeightPrecision precision, Arithmetic arithmetic) {
  return floats_in_layers(precision == WeightPrecision::bits_4 ? WeightPrecision::bits_8 : precision, arithmetic);
}

int head_rows(int rows_per_step) { return std::clamp(rows_per_step / kHeadPart, 1, kMostHeadRows); }

DecoderNeeds decoder_needs(const DecoderSpec& spec, const DecoderWeights& weights, const DecoderHolding& holding,
                           Arithmetic arithmetic, int threads) {
  DecoderNeeds needs;
  WeightArena fixed = WeightArena::measuring();
  const LoadProgress nobody;
  WeightLoader loader(fixed, floats_outside_layers(holding.weights, arithmetic), 1, nobody);
  loader.set_reads(false);
  const Projection embedding(loader, arithmetic, {weights.embedding});
  loader.vector(weights.final_norm);
  const Projection head = weights.head ? Projection(loader, arithmetic, {*weights.head}) : embedding;
  needs.fixed_bytes = fixed.bytes_used();

  BranchNeeds branches{.rows = holding.rows_per_step};
  branches.in.add(head_rows(holding.rows_per_step), head);
  loader.set_floats(floats_in_layers(holding.weights, arithmetic));
  for (std::size_t index = 0; index < weights.layers.size(); ++index) {
    WeightArena arena = WeightArena::measuring();
    loader.set_arena(arena);
    const DecoderLayer layer(spec, spec.layers[index].experts, weights.layers[index], loader, arithmetic);
    branches.add_attention(layer.attention.query_key_value, layer.attention.output);
    std::visit([&](const auto& mlp) { branches.add(mlp); }, layer.mlp);
    needs.layer_bytes.push_back(arena.bytes_used());
  }
  needs.step_bytes =
      branches.bytes() + rotary_bytes(holding.rows_per_step, spec.rope, spec.window_rope) +
      2 * static_cast<std::size_t>(holding.rows_per_step) * row_bytes(spec.hidden) +
      LanguageHead::needed_bytes(head_rows(holding.rows_per_step), head.outputs(), spec.vocabulary, threads);
  needs.kv_kept_bytes = SelfAttention::kv_of(spec, arithmetic, holding.kv_8_bits).geometry().block_bytes;
  needs.kv_block_bytes = SelfAttention::block_bytes(spec, arithmetic, holding.kv_8_bits);
  return needs;
}

EncoderNeeds encoder_needs(const EncoderSpec& spec, const EncoderWeights& weights, WeightPrecision precision,
                           Arithmetic arithmetic) {
  WeightArena arena = WeightArena::measuring();
  const LoadProgress nobody;
  WeightLoader loader(arena, floats_in_layers(precision, arithmetic), 1, nobody);
  loader.set_reads(false);
  const EncoderParts parts(spec, weights, loader, precision, arithmetic);
  const int rows = std::max(kEncoderRows, spec.context_tokens);
  BranchNeeds branches{.rows = rows};
  for (const EncoderParts::Layer& layer : parts.layers) {
    branches.add_attention(layer.query_key_value, layer.output);
    branches.in.add(rows, layer.output);
    branches.add(layer.mlp);
  }
  branches.mixed = {};  // encoders mix into what the next projection reads
  EncoderNeeds needs;
  needs.weight_bytes = arena.bytes_used();
  needs.step_bytes = branches.bytes() + static_cast<std::size_t>(rows) * row_bytes(spec.hidden);
  if (spec.positions == 0) needs.step_bytes += rotary_bytes(rows, spec.rope, spec.window_rope);
  if (const auto precision_of_kv = encoder_kv_precision(spec, arithmetic)) {
    const int blocks = std::max(kEncoderRows, (spec.context_tokens + kBlockTokens - 1) / kBlockTokens);
    const KvPool kv(1, spec.heads, spec.head_dim, *precision_of_kv);
    needs.step_bytes += static_cast<std::size_t>(blocks) * kv.stride_bytes();  // a text begins with a block
  }
  return needs;
}

}  // namespace cortex

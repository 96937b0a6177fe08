#include "backend/mlx/decoder.h"

#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "backend/plan_check.h"
#include "backend/sampler.h"
#include "base/error.h"

namespace cortex {
namespace {

// Query rows that attend at once: the scores [heads, rows, keys] are in memory whole.
constexpr int kAttentionRows = 128;
// Logits that are in memory at once.
constexpr std::size_t kLogitBytes = std::size_t{64} << 20;

int window_of(const DecoderLayerSpec& layer) {
  return layer.attention == AttentionKind::sliding_window ? layer.window_tokens : 0;
}

// Query i stands at `start` + i, key j at `first_key` + j; a query sees `window` tokens, itself the last of them.
mx::array window_mask(int start, int rows, int first_key, int keys, int window) {
  const auto seen = std::make_unique<bool[]>(static_cast<std::size_t>(rows) * static_cast<std::size_t>(keys));
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < keys; ++j) {
      const int distance = start + i - first_key - j;
      seen[static_cast<std::size_t>(i) * static_cast<std::size_t>(keys) + static_cast<std::size_t>(j)] =
          distance >= 0 && distance < window;
    }
  }
  return mx::array(seen.get(), {rows, keys}, mx::bool_);
}

MlxLinear load_linear(const std::vector<const Weight*>& weights,
                      const std::vector<const std::optional<Weight>*>& biases) {
  std::vector<const Weight*> present;
  for (const std::optional<Weight>* bias : biases) {
    if (*bias) present.push_back(&**bias);
  }
  return MlxLinear(weights, present);
}

}  // namespace

MlxDecoder::Layer::Layer(const DecoderLayerWeights& weights)
    : attention_norm(load_array(weights.attention_norm.value())),
      mlp_norm(load_array(weights.mlp_norm.value())),
      query_key_value(load_linear({&weights.query, &weights.key, &weights.value},
                                  {&weights.query_bias, &weights.key_bias, &weights.value_bias})),
      output(load_linear({&weights.output}, {&weights.output_bias})),
      gate_up(load_linear({&weights.gate.value(), &weights.up.value()}, {&weights.gate_bias, &weights.up_bias})),
      down(load_linear({&weights.down.value()}, {&weights.down_bias})) {}

std::size_t MlxDecoder::Layer::bytes() const {
  return attention_norm.nbytes() + mlp_norm.nbytes() + query_key_value.bytes() + output.bytes() + gate_up.bytes() +
         down.bytes();
}

MlxDecoder::MlxDecoder(const DecoderSpec& spec, const DecoderWeights& weights, std::string numeric_class,
                       const LoadProgress& progress)
    : spec_(spec),
      numeric_class_(std::move(numeric_class)),
      embedding_(load_array(weights.embedding)),
      head_(weights.head ? load_array(*weights.head) : embedding_),
      final_norm_(load_array(weights.final_norm)),
      rotary_(spec.rope),
      pool_(spec) {
  weight_bytes_ = embedding_.nbytes() + (weights.head ? head_.nbytes() : 0) + final_norm_.nbytes();
  for (const DecoderLayerWeights& layer : weights.layers) {
    weight_bytes_ += layers_.emplace_back(layer).bytes();
    if (progress) progress(static_cast<double>(layers_.size()) / static_cast<double>(weights.layers.size()));
  }
}

KvGeometry MlxDecoder::kv_geometry() const {
  return {.block_bytes = pool_.block_bytes(),
          .layout = "layer, k and v, head, token, element; float32",
          .numeric_class = numeric_class_};
}

std::size_t MlxDecoder::memory_bytes() const { return weight_bytes_ + pool_.bytes(); }

template <typename Work>
auto MlxDecoder::guarded(Work&& work) {
  if (!failure_.empty()) throw Error(ErrorCode::model_failed, fmt::format("the MLX device failed: {}", failure_));
  try {
    return work();
  } catch (const Error&) {
    throw;
  } catch (const CheckFailure&) {
    throw;
  } catch (const std::exception& failure) {
    failure_ = failure.what();
    throw Error(ErrorCode::model_failed, fmt::format("the MLX device failed: {}", failure_));
  }
}

void MlxDecoder::reserve_kv(int blocks) {
  guarded([&] { pool_.reserve(blocks); });
}

void MlxDecoder::submit(const StepPlan& plan) {
  check_plan(plan, {.vocabulary = spec_.vocabulary,
                    .context_tokens = spec_.context_tokens,
                    .kv_blocks = pool_.blocks(),
                    .last_step = last_rows_});
  const std::vector<TokenId> tokens = resolved_tokens(plan, last_rows_);
  last_rows_.clear();
  submitted_ = false;
  if (!tokens.empty()) last_rows_ = guarded([&] { return step(plan, tokens); });
  submitted_ = true;
}

void MlxDecoder::collect(StepResult* result) {
  CORTEX_CHECK(submitted_);
  submitted_ = false;
  result->rows = last_rows_;
}

void MlxDecoder::read_blocks(std::span<const BlockId> blocks, std::span<std::byte> out) {
  check_blocks(blocks, pool_.blocks());
  check_block_bytes(blocks, pool_.block_bytes(), out.size());
  guarded([&] { pool_.read_blocks(blocks, out); });
}

void MlxDecoder::write_blocks(std::span<const BlockId> blocks, std::span<const std::byte> bytes) {
  check_blocks(blocks, pool_.blocks());
  check_block_bytes(blocks, pool_.block_bytes(), bytes.size());
  guarded([&] { pool_.write_blocks(blocks, bytes); });
}

// One array holds a layer's blocks: there is nothing to give back block by block.
void MlxDecoder::discard(std::span<const BlockId> blocks) { check_blocks(blocks, pool_.blocks()); }

std::vector<MlxDecoder::AttentionTile> MlxDecoder::tiles_of(const StepPlan& plan, int window_tokens) const {
  std::vector<AttentionTile> tiles;
  for (const SequenceSlice& slice : plan.slices) {
    for (int row = 0; row < slice.rows; row += kAttentionRows) {
      const int count = std::min(kAttentionRows, slice.rows - row);
      const int start = slice.start + row;
      const int end = start + count;
      const int first_key = window_tokens > 0 ? std::max(0, start - window_tokens + 1) : 0;
      AttentionTile& tile = tiles.emplace_back(AttentionTile{
          .first_row = slice.first_row + row, .rows = count, .keys = pool_.locate(slice.blocks, first_key, end)});
      if (window_tokens > 0 && end > window_tokens && count > 1) {
        tile.mask = window_mask(start, count, first_key, end - first_key, window_tokens);
      } else {
        tile.causal = count > 1;
      }
    }
  }
  return tiles;
}

MlxDecoder::StepLayout MlxDecoder::lay_out(const StepPlan& plan) const {
  std::vector<std::int32_t> slots, positions;
  for (const SequenceSlice& slice : plan.slices) {
    const int end = slice.start + slice.rows;
    PagedPool::add_slots(slice.blocks, slice.start, end, &slots);
    for (int position = slice.start; position < end; ++position) positions.push_back(position);
  }
  StepLayout layout{.slots = pool_.checked_slots(slots), .rotary = rotary_.at(positions)};
  for (const DecoderLayerSpec& layer : spec_.layers) {
    const int window_tokens = window_of(layer);
    if (!layout.tiles.contains(window_tokens)) layout.tiles[window_tokens] = tiles_of(plan, window_tokens);
  }
  return layout;
}

mx::array MlxDecoder::normalised(const mx::array& x, const mx::array& weight) const {
  return mx::fast::rms_norm(x, weight, spec_.norm_epsilon);
}

mx::array MlxDecoder::attention(int layer, const mx::array& x, const StepLayout& layout) {
  const Layer& weights = layers_[static_cast<std::size_t>(layer)];
  const int width = (spec_.heads + 2 * spec_.kv_heads) * spec_.head_dim;
  const int turned_heads = spec_.heads + spec_.kv_heads;
  const int turned_width = turned_heads * spec_.head_dim;
  const mx::array qkv = weights.query_key_value(normalised(x, weights.attention_norm));
  const auto heads_of = [&](int begin, int end, int heads) {
    return mx::reshape(columns(qkv, begin, end), {x.shape(0), heads, spec_.head_dim});
  };
  const mx::array qk = rotary_.turn(heads_of(0, turned_width, turned_heads), layout.rotary);
  const mx::array q = columns(qk, 0, spec_.heads);
  const mx::array k = columns(qk, spec_.heads, turned_heads);
  pool_.append(layer, layout.slots, k, heads_of(turned_width, width, spec_.kv_heads));

  std::vector<mx::array> attended;
  for (const AttentionTile& tile : layout.tiles.at(window_of(spec_.layers[static_cast<std::size_t>(layer)]))) {
    attended.push_back(attend(rows(q, tile.first_row, tile.first_row + tile.rows), pool_.keys(layer, tile.keys),
                              pool_.values(layer, tile.keys), tile.causal, tile.mask));
  }
  return weights.output(attended.size() == 1 ? attended.front() : mx::concatenate(attended, 0));
}

mx::array MlxDecoder::feed_forward(const Layer& layer, const mx::array& x) const {
  const mx::array both = layer.gate_up(normalised(x, layer.mlp_norm));
  const mx::array gate = columns(both, 0, spec_.intermediate);
  const mx::array up = columns(both, spec_.intermediate, 2 * spec_.intermediate);
  return layer.down(activate(spec_.activation, gate) * up);
}

mx::array MlxDecoder::body(const StepPlan& plan, std::span<const TokenId> tokens) {
  const StepLayout layout = lay_out(plan);
  mx::array x = take(embedding_, CheckedIds(tokens, spec_.vocabulary), 0);
  for (int layer = 0; layer < static_cast<int>(layers_.size()); ++layer) {
    x = x + attention(layer, x, layout);
    x = x + feed_forward(layers_[static_cast<std::size_t>(layer)], x);
  }
  return x;
}

std::vector<RowResult> MlxDecoder::step(const StepPlan& plan, std::span<const TokenId> tokens) {
  const mx::array x = body(plan, tokens);
  std::vector<mx::array> outputs = pool_.arrays();
  if (plan.wanted.empty()) {
    mx::eval(std::move(outputs));
    return {};
  }
  std::vector<std::int32_t> wanted_rows;
  for (const WantedRow& wanted : plan.wanted) wanted_rows.push_back(wanted.row);
  const mx::array hidden = normalised(take(x, CheckedIds(wanted_rows, x.shape(0)), 0), final_norm_);
  outputs.push_back(hidden);
  mx::eval(std::move(outputs));
  return sample(plan, hidden);
}

// `hidden` [W, hidden], evaluated.
std::vector<RowResult> MlxDecoder::sample(const StepPlan& plan, const mx::array& hidden) const {
  std::vector<RowResult> results(plan.wanted.size());
  std::vector<std::int32_t> logit_rows;
  const auto finish = [&](std::int32_t row, std::span<const float> logits) {
    const WantedRow& wanted = plan.wanted[static_cast<std::size_t>(row)];
    const std::span<const float> state = wanted.hidden ? host_row(hidden, row) : std::span<const float>{};
    results[static_cast<std::size_t>(row)] = sample_row(logits, state, wanted);
  };
  for (std::int32_t row = 0; row < hidden.shape(0); ++row) {
    if (wants_logits(plan.wanted[static_cast<std::size_t>(row)])) {
      logit_rows.push_back(row);
    } else {
      finish(row, {});
    }
  }
  const std::size_t row_bytes = static_cast<std::size_t>(spec_.vocabulary) * sizeof(float);
  const std::size_t rows_at_once = std::max<std::size_t>(1, kLogitBytes / row_bytes);
  for (std::size_t first = 0; first < logit_rows.size(); first += rows_at_once) {
    const std::span<const std::int32_t> group =
        std::span(logit_rows).subspan(first, std::min(rows_at_once, logit_rows.size() - first));
    mx::array logits = mx::matmul(take(hidden, CheckedIds(group, hidden.shape(0)), 0), mx::transpose(head_));
    logits.eval();
    for (std::size_t i = 0; i < group.size(); ++i) finish(group[i], host_row(logits, static_cast<int>(i)));
  }
  return results;
}

}  // namespace cortex

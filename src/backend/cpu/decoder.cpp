#include "backend/cpu/decoder.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>

#include "backend/cpu/buffer.h"
#include "backend/cpu/flush_denormals.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/model_needs.h"
#include "backend/cpu/packed_layers.h"
#include "backend/plan_check.h"
#include "backend/sampler.h"
#include "base/error.h"
#include "base/file_system.h"
#include "base/log.h"

namespace cortex {
namespace {

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

// Goes up whenever a change of the arithmetic, in any of the kernels, changes what is kept of a token.
constexpr std::string_view kArithmeticVersion = "1";

// Exact arithmetic is the same bits on every instruction set; sums over bfloat16 are not.
std::string numeric_class(Arithmetic arithmetic, WeightPrecision precision) {
  const std::string weights =
      precision == WeightPrecision::as_given ? "" : fmt::format("-{} weights", name_of(precision));
  if (arithmetic == Arithmetic::exact) return fmt::format("cpu-exact-{}{}", kArithmeticVersion, weights);
  return fmt::format("cpu-fast-{}-{}{}", kArithmeticVersion, kernels().name, weights);
}

}  // namespace

CpuDecoder::CpuDecoder(const DecoderSpec& spec, const DecoderWeights& weights, const DecoderHolding& holding,
                       const LoadProgress& progress, std::shared_ptr<ThreadTeam> team, Arithmetic arithmetic)
    : spec_(spec),
      arithmetic_(arithmetic),
      holding_(holding),
      width_(static_cast<std::size_t>(padded_rows(spec.hidden))),
      team_(std::move(team)),
      attention_(spec, arithmetic, holding.kv_8_bits, team_) {
  WeightLoader loader(arena_, floats_outside_layers(holding.weights, arithmetic), elements_of(spec), progress);
  embedding_ = Projection(loader, arithmetic, {weights.embedding});
  final_norm_ = loader.vector(weights.final_norm);
  if (weights.head) head_ = Projection(loader, arithmetic, {*weights.head});
  loader.set_floats(floats_in_layers(holding.weights, arithmetic));
  if (is_streamed_at_all()) {
    read_ranges(weights, loader);
  } else {
    for (int layer = 0; layer < layer_count(); ++layer) layers_.push_back(read_layer(weights, layer, loader));
  }
}

DecoderLayer CpuDecoder::read_layer(const DecoderWeights& weights, int layer, WeightLoader& loader) const {
  const auto index = static_cast<std::size_t>(layer);
  return {spec_, spec_.layers[index].experts, weights.layers[index], loader, arithmetic_};
}

template <typename Visit>
void CpuDecoder::lay_out_ranges(const DecoderWeights& weights, WeightLoader& loader, const Visit& visit) {
  layers_.clear();
  for (int layer = 0; layer < layer_count(); ++layer) {
    WeightArena& range = ranges_[static_cast<std::size_t>(layer)];
    range.rewind();
    loader.set_arena(range);
    layers_.push_back(read_layer(weights, layer, loader));
    visit(layer, range.content());
    if (is_streamed(layer)) range.discard();
  }
}

void CpuDecoder::read_ranges(const DecoderWeights& weights, WeightLoader& loader) {
  const DecoderNeeds needs = decoder_needs(spec_, weights, holding_, arithmetic_, team_->size());
  for (const std::uint64_t bytes : needs.layer_bytes) ranges_.push_back(WeightArena::range_of(bytes));
  const std::string content =
      fmt::format("{} {} {}", holding_.fingerprint, name_of(holding_.weights), static_cast<int>(arithmetic_));
  PackedLayers packed(real_file_system(), holding_.stream_folder, content, needs.layer_bytes);
  loader.set_reads(false);
  const auto read = [&](int layer, std::span<std::byte> bytes) { packed.read(layer, bytes); };
  try {
    lay_out_ranges(weights, loader, read);
  } catch (const Error& unusable) {
    if (unusable.code() != ErrorCode::weights_io_error) throw;
    log_info(fmt::format("packing the weights for reading layer by layer: {}", unusable.message()));
    loader.set_reads(true);
    PackedLayersWriter writer(packed);
    lay_out_ranges(weights, loader, [&](int, std::span<std::byte> bytes) { writer.add(bytes); });
    writer.finish();
    packed.close();  // what was found there
  }
  std::vector<StreamedLayer> streamed;
  for (int layer = 0; layer < layer_count(); ++layer) {
    if (is_streamed(layer)) streamed.push_back({layer, &ranges_[static_cast<std::size_t>(layer)]});
  }
  layer_stream_ = std::make_unique<LayerStream>(std::move(packed), std::move(streamed));
}

KvGeometry CpuDecoder::kv_geometry() const {
  KvGeometry geometry = attention_.kv().geometry();
  geometry.numeric_class = numeric_class(arithmetic_, holding_.weights);
  return geometry;
}

void CpuDecoder::submit(const StepPlan& plan) {
  check_plan(plan, {.vocabulary = spec_.vocabulary,
                    .context_tokens = spec_.context_tokens,
                    .kv_blocks = attention_.kv().blocks(),
                    .last_step = last_step_});
  result_.reset();
  const FlushDenormals flush;
  rows_ = static_cast<int>(plan.tokens.size());
  attention_.lay_out(plan);
  embed(resolved_tokens(plan, last_step_));
  if (layer_stream_) layer_stream_->begin_step();
  Vector after;  // of the branch whose output waits in update_
  for (int layer = 0; layer < layer_count(); ++layer) {
    if (!is_streamed(layer)) {
      after = run_layer(layer, after);
      continue;
    }
    layer_stream_->enter(layer);
    after = run_layer(layer, after);
    team_->for_rows(rows_, [&](int row) { add_update(row, after); });  // a norm that goes with the layer
    after = {};
    layer_stream_->leave(layer);
  }
  finish(plan, after);
}

Vector CpuDecoder::run_layer(int index, Vector after) {
  const DecoderLayer& layer = layers_[static_cast<std::size_t>(index)];
  enter_branch(after, layer.attention_norms.before, layer.attention.query_key_value);
  after = layer.attention_norms.after;
  attention_.run(index, layer.attention, in_, branch_end(after), branch_out(after), width_);
  std::visit(
      [&](const auto& mlp) {
        enter_branch(after, layer.mlp_norms.before, mlp.first());
        after = layer.mlp_norms.after;
        mlp.run(*team_, in_, rows_, feed_forward_, branch_end(after), branch_out(after), width_);
      },
      layer.mlp);
  return after;
}

void CpuDecoder::collect(StepResult* result) {
  CORTEX_CHECK(result_.has_value());
  *result = std::move(*result_);
  result_.reset();
}

std::size_t CpuDecoder::memory_bytes() const {
  const std::size_t floats = stream_.capacity() + update_.capacity();
  DecoderNeeds ranges;
  for (const WeightArena& range : ranges_) ranges.layer_bytes.push_back(range.bytes_used());
  return arena_.bytes_used() + ranges.weight_bytes(holding_.resident_layers) + attention_.memory_bytes() +
         in_.memory_bytes() + feed_forward_.memory_bytes() + language_head_.memory_bytes() + floats * sizeof(float);
}

void CpuDecoder::embed(const std::vector<TokenId>& tokens) {
  const std::size_t elements = tokens.size() * width_;
  make_room(stream_, elements);
  make_room(update_, elements);
  std::fill_n(stream_.begin(), elements, 0.0f);
  team_->for_rows(rows_, [&](int row) {
    float* out = stream_row(row);
    embedding_.unpack_row(tokens[static_cast<std::size_t>(row)], out);
    for (int i = 0; i < spec_.hidden; ++i) out[i] *= spec_.embedding_scale;
  });
}

void CpuDecoder::add_update(int row, const Vector& after) {
  if (after.empty()) return;
  float* update = update_.data() + static_cast<std::size_t>(row) * width_;
  kernels().rms_norm(update, after.values, spec_.norm_epsilon, spec_.hidden, update);
  kernels().add(stream_row(row), update, static_cast<std::size_t>(spec_.hidden));
}

void CpuDecoder::enter_branch(const Vector& after, const Vector& before, const Projection& next) {
  in_.reshape(rows_, spec_.hidden, next.padded_columns(), next.products());
  team_->for_rows(rows_, [&](int row) {
    add_update(row, after);
    if (before.empty()) {
      std::copy_n(stream_row(row), spec_.hidden, in_.row(row));
    } else {
      kernels().rms_norm(stream_row(row), before.values, spec_.norm_epsilon, spec_.hidden, in_.row(row));
    }
    in_.pack(row);
  });
}

void CpuDecoder::finish(const StepPlan& plan, const Vector& after) {
  for (const WantedRow& wanted : plan.wanted) add_update(wanted.row, after);
  std::vector<RowResult> results(plan.wanted.size());
  const auto most = static_cast<std::size_t>(head_rows(holding_.rows_per_step));
  for (std::size_t begin = 0; begin < results.size(); begin += most) {
    const std::size_t count = std::min(most, results.size() - begin);
    finish_rows(std::span(plan.wanted).subspan(begin, count), std::span(results).subspan(begin, count));
  }
  last_step_.assign(plan.wanted.size(), {});
  for (std::size_t i = 0; i < last_step_.size(); ++i) last_step_[i].token = results[i].token;
  result_ = StepResult{std::move(results)};
}

void CpuDecoder::finish_rows(std::span<const WantedRow> wanted, std::span<RowResult> results) {
  const Projection& head = spec_.tied_head ? embedding_ : head_;
  in_.reshape(static_cast<int>(wanted.size()), spec_.hidden, head.padded_columns(), head.products());
  for (int i = 0; i < static_cast<int>(wanted.size()); ++i) {
    const int row = wanted[static_cast<std::size_t>(i)].row;
    kernels().rms_norm(stream_row(row), final_norm_.values, spec_.norm_epsilon, spec_.hidden, in_.row(i));
    in_.pack(i);
  }
  language_head_.run(*team_, head, spec_.vocabulary, in_, wanted, results);
}

}  // namespace cortex

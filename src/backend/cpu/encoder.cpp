#include "backend/cpu/encoder.h"

#include <algorithm>
#include <utility>

#include "backend/cpu/kernels.h"
#include "backend/cpu/projection.h"
#include "backend/plan_check.h"

namespace cortex {
namespace {

std::size_t elements_of(const EncoderSpec& spec) {
  const auto hidden = static_cast<std::size_t>(spec.hidden);
  const std::size_t attention = 4 * static_cast<std::size_t>(spec.heads) * static_cast<std::size_t>(spec.head_dim);
  const std::size_t layer = hidden * (attention + 2 * static_cast<std::size_t>(spec.intermediate));
  const std::size_t tables = hidden * static_cast<std::size_t>(spec.vocabulary + spec.positions + spec.token_types);
  return tables + layer * spec.layers.size();
}

}  // namespace

CpuEncoder::CpuEncoder(const EncoderSpec& spec, const EncoderWeights& weights, const LoadProgress& progress,
                       std::shared_ptr<ThreadTeam> team)
    : spec_(spec), team_(std::move(team)), scratch_(static_cast<std::size_t>(team_->size())) {
  WeightReader reader(elements_of(spec), progress);
  token_embedding_ = reader.read({&weights.token_embedding});
  position_embedding_ = reader.read({&weights.position_embedding.value()});
  type_embedding_ = reader.read({&weights.type_embedding.value()});
  embedding_norm_ = read_norm(weights.embedding_norm, reader);
  for (const EncoderLayerWeights& layer : weights.layers) layers_.push_back(read_layer(layer, reader));
  weight_bytes_ = reader.read_bytes();
}

CpuEncoder::Norm CpuEncoder::read_norm(const LayerNorm& norm, WeightReader& reader) {
  return {reader.read_vector({&norm.weight}), reader.read_vector({&norm.bias.value()})};
}

CpuEncoder::Layer CpuEncoder::read_layer(const EncoderLayerWeights& weights, WeightReader& reader) {
  Layer layer;
  layer.query_key_value = reader.read({&weights.query.weight, &weights.key.weight, &weights.value.weight});
  layer.query_key_value_bias =
      reader.read_vector({&weights.query.bias.value(), &weights.key.bias.value(), &weights.value.bias.value()});
  layer.output = reader.read({&weights.output.weight});
  layer.output_bias = reader.read_vector({&weights.output.bias.value()});
  layer.attention_norm = read_norm(weights.attention_norm.value(), reader);
  layer.up = reader.read({&weights.up.weight});
  layer.up_bias = reader.read_vector({&weights.up.bias.value()});
  layer.down = reader.read({&weights.down.weight});
  layer.down_bias = reader.read_vector({&weights.down.bias.value()});
  layer.mlp_norm = read_norm(weights.mlp_norm, reader);
  return layer;
}

void CpuEncoder::encode(const PackedTexts& texts, EncodeResult* result) {
  check_texts(texts, spec_);
  const int rows = static_cast<int>(texts.tokens.size());
  embed(texts);
  for (const Layer& layer : layers_) {
    project(*team_, stream_, rows, layer.query_key_value, layer.query_key_value_bias, projected_);
    attend_rows(texts);
    project(*team_, mixed_, rows, layer.output, layer.output_bias, update_);
    add_and_normalise(layer.attention_norm);

    project(*team_, stream_, rows, layer.up, layer.up_bias, projected_);
    team_->parallel_for(rows, [&](int begin, int end) {
      kernels().activate(spec_.activation, projected_.data() + offset_of(begin, spec_.intermediate),
                         offset_of(end - begin, spec_.intermediate));
    });
    project(*team_, projected_, rows, layer.down, layer.down_bias, update_);
    add_and_normalise(layer.mlp_norm);
  }
  result->dimensions = spec_.hidden;
  pool(texts, result->pooled);
  result->hidden = texts.hidden ? stream_ : std::vector<float>{};
}

std::size_t CpuEncoder::memory_bytes() const {
  std::size_t scratch = 0;
  for (const auto* buffer : {&stream_, &projected_, &mixed_, &update_}) scratch += buffer->capacity() * sizeof(float);
  return weight_bytes_ + scratch;
}

void CpuEncoder::embed(const PackedTexts& texts) {
  const std::size_t rows = texts.tokens.size();
  const auto hidden = static_cast<std::size_t>(spec_.hidden);
  stream_.resize(rows * hidden);
  update_.resize(stream_.size());
  text_of_row_.resize(rows);
  for (std::size_t text = 0; text + 1 < texts.starts.size(); ++text) {
    for (int row = texts.starts[text]; row < texts.starts[text + 1]; ++row) {
      const auto at = static_cast<std::size_t>(row);
      text_of_row_[at] = static_cast<int>(text);
      const int type = texts.types.empty() ? 0 : texts.types[at];
      float* out = stream_.data() + offset_of(row, spec_.hidden);
      std::copy_n(token_embedding_.row(texts.tokens[at]), spec_.hidden, out);
      kernels().add(out, type_embedding_.row(type), hidden);
      std::copy_n(position_embedding_.row(row - texts.starts[text]), spec_.hidden,
                  update_.data() + offset_of(row, spec_.hidden));
    }
  }
  add_and_normalise(embedding_norm_);
}

void CpuEncoder::attend_rows(const PackedTexts& texts) {
  const int rows = static_cast<int>(texts.tokens.size());
  mixed_.resize(offset_of(rows, spec_.heads * spec_.head_dim));
  const int parts = std::min(rows, static_cast<int>(scratch_.size()));
  team_->run(parts, [&](int part) {
    for (int row = part; row < rows; row += parts) {
      const auto text = static_cast<std::size_t>(text_of_row_[static_cast<std::size_t>(row)]);
      attend_row(row, texts.starts[text], texts.starts[text + 1], scratch_[static_cast<std::size_t>(part)]);
    }
  });
}

// All heads of one row over the rows [begin, end) of its text.
void CpuEncoder::attend_row(int row, int begin, int end, AttentionScratch& scratch) {
  const int width = spec_.heads * spec_.head_dim;
  const std::size_t stride = offset_of(3, width);
  scratch.runs.resize(1);
  for (int head = 0; head < spec_.heads; ++head) {
    const std::size_t offset = offset_of(head, spec_.head_dim);
    const float* first = projected_.data() + static_cast<std::size_t>(begin) * stride + offset;
    const float* query = projected_.data() + static_cast<std::size_t>(row) * stride + offset;
    scratch.runs[0] = {first + width, first + offset_of(2, width), end - begin};
    attend(query, scratch, stride, spec_.head_dim, mixed_.data() + offset_of(row, width) + offset);
  }
}

void CpuEncoder::add_and_normalise(const Norm& norm) {
  const int rows = static_cast<int>(stream_.size() / static_cast<std::size_t>(spec_.hidden));
  team_->parallel_for(rows, [&](int begin, int end) {
    for (int row = begin; row < end; ++row) {
      float* x = stream_.data() + offset_of(row, spec_.hidden);
      kernels().add(x, update_.data() + offset_of(row, spec_.hidden), static_cast<std::size_t>(spec_.hidden));
      kernels().layer_norm(x, norm.weight.data(), norm.bias.data(), spec_.norm_epsilon, spec_.hidden, x);
    }
  });
}

void CpuEncoder::pool(const PackedTexts& texts, std::vector<float>& pooled) const {
  const std::size_t count = texts.starts.size() - 1;
  const auto hidden = static_cast<std::size_t>(spec_.hidden);
  pooled.assign(count * hidden, 0.0f);
  for (std::size_t text = 0; text < count; ++text) {
    const int begin = texts.starts[text];
    const int end = texts.starts[text + 1];
    float* out = pooled.data() + text * hidden;
    switch (spec_.pooling) {
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

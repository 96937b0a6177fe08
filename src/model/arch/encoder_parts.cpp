#include "model/arch/encoder_parts.h"

#include <fmt/core.h>

#include <charconv>

#include "model/arch/limits.h"

namespace cortex {
namespace {

// Names of id2label are the numbers from 0 on, each once.
std::vector<std::string> read_named_labels(const Fields& names) {
  const std::size_t count = names.entries().size();
  if (count < 1 || count > kMaxLabels) names.fail("0", fmt::format("{} labels; 1 to {}", count, kMaxLabels));
  std::vector<std::string> labels(count);
  for (const auto& [name, value] : names.entries()) {
    std::size_t index = count;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
    const bool plain = error == std::errc() && end == name.data() + name.size() && name == fmt::format("{}", index);
    if (!plain || index >= count) names.fail(name, fmt::format("is not a number from 0 to {}", count - 1));
    labels[index] = names.text(name);
  }
  return labels;
}

}  // namespace

void read_encoder_heads(const Fields& config, EncoderSpec* spec) {
  spec->hidden = config.integer("hidden_size", 1, kMaxHidden);
  spec->heads = config.integer("num_attention_heads", 1, kMaxHeads);
  if (spec->hidden % spec->heads != 0) {
    config.fail("num_attention_heads",
                fmt::format("{} heads do not divide the hidden size of {}", spec->heads, spec->hidden));
  }
  spec->head_dim = spec->hidden / spec->heads;
}

bool is_classifier(const Fields& config) {
  const auto* names = config.find_array("architectures");
  if (!names) return false;
  for (const Value& name : *names) {
    const auto* text = name.as<std::string>();
    if (text && text->ends_with("ForSequenceClassification")) return true;
  }
  return false;
}

std::vector<std::string> read_labels(const Fields& config) {
  if (const Fields* names = config.find_object("id2label")) return read_named_labels(*names);
  std::vector<std::string> labels;
  const int count = config.find_integer("num_labels", 1, kMaxLabels).value_or(2);
  for (int i = 0; i < count; ++i) labels.push_back(fmt::format("LABEL_{}", i));
  return labels;
}

Linear take_linear(const std::string& name, int out, int in, bool biased, TensorMap* tensors) {
  Linear linear{.weight = tensors->take(name + ".weight", {out, in}), .bias = {}};
  if (biased) linear.bias = tensors->take(name + ".bias", {out});
  return linear;
}

}  // namespace cortex

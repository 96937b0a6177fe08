#include "model/tensor_map.h"

#include <fmt/core.h>

#include <utility>

#include "base/error.h"
#include "model/fields.h"

namespace cortex {
namespace {

bool is_float(DType dtype) { return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16; }
bool is_quantised(DType dtype) { return layout_of(dtype).block_elements > 1; }

constexpr std::string_view kWeightSuffix = ".weight";
constexpr std::string_view kFloatTypes = "F32, F16, BF16";
constexpr std::string_view kMatrixTypes = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K";

std::string not_a_weight(DType dtype, std::string_view types) {
  return fmt::format("type {} is not one of {}", layout_of(dtype).name, types);
}

}  // namespace

TensorMap::TensorMap(std::string source, std::vector<TensorView> tensors, Quantisation quantisation)
    : source_(std::move(source)), quantisation_(std::move(quantisation)) {
  for (TensorView& tensor : tensors) {
    bytes_ += tensor.bytes;
    std::string name = tensor.name;
    if (!tensors_.emplace(name, std::move(tensor)).second) fail(name, "stands twice; a name may stand once");
  }
}

void TensorMap::fail(const std::string& name, const std::string& what) const {
  throw Error(ErrorCode::invalid_weights, fmt::format("{}: tensor {}: {}", source_, quote(name), what));
}

const TensorView& TensorMap::get(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) fail(name, "is missing");
  return found->second;
}

std::int64_t TensorMap::rows(const std::string& name) const {
  const TensorView& tensor = get(name);
  return tensor.shape.empty() ? 1 : tensor.shape.front();
}

// `why` says where the shape comes from, or is empty.
const TensorView& TensorMap::take_as(const std::string& name, const Shape& shape, const std::string& why) {
  const TensorView& tensor = get(name);
  if (tensor.shape != shape) {
    fail(name, fmt::format("shape {}, expected {}{}", to_string(tensor.shape), to_string(shape), why));
  }
  used_.insert(name);
  return tensor;
}

std::optional<Weight> TensorMap::take_groups(const std::string& name, const Shape& shape) {
  if (shape.size() < 2 || !name.ends_with(kWeightSuffix)) return std::nullopt;
  const std::string layer = name.substr(0, name.size() - kWeightSuffix.size());
  const auto format = contains(layer + ".scales") ? quantisation_.format_of(layer) : std::nullopt;
  if (!format) return std::nullopt;
  const std::int64_t columns = shape.back();
  const auto [bits, group] = *format;
  if (columns % group != 0) fail(name, fmt::format("rows of {} elements are not whole groups of {}", columns, group));

  Shape stored = shape;
  stored.back() = columns / 32 * bits;
  Weight weight{.tensor = take_as(name, stored, fmt::format(": {} of {} bits", to_string(shape), bits))};
  if (weight.tensor.dtype != DType::u32) {
    fail(name, fmt::format("type {}, but quants are U32", layout_of(weight.tensor.dtype).name));
  }
  stored.back() = columns / group;
  const auto take_values = [&](const char* suffix) {
    const TensorView& tensor =
        take_as(layer + suffix, stored, fmt::format(": {} in groups of {}", to_string(shape), group));
    if (!is_float(tensor.dtype)) fail(tensor.name, not_a_weight(tensor.dtype, kFloatTypes));
    return tensor;
  };
  weight.groups = AffineGroups{take_values(".scales"), take_values(".biases"), bits, group};
  return weight;
}

Weight TensorMap::take(const std::string& name, const Shape& shape) {
  if (auto weight = take_groups(name, shape)) return *std::move(weight);
  const TensorView& tensor = take_as(name, shape, "");
  if (!is_float(tensor.dtype) && !(shape.size() > 1 && is_quantised(tensor.dtype))) {
    fail(name, not_a_weight(tensor.dtype, shape.size() > 1 ? kMatrixTypes : kFloatTypes));
  }
  return {tensor};
}

std::vector<Weight> TensorMap::take_stacked(const std::string& name, const Shape& shape) {
  CORTEX_CHECK(shape.size() == 3);
  const Weight all = take(name, shape);
  std::vector<Weight> weights;
  for (std::int64_t i = 0; i < shape[0]; ++i) weights.push_back(rows_of(all, i * shape[1], shape[1]));
  return weights;
}

void TensorMap::ignore(const std::string& name) { used_.insert(name); }

void TensorMap::ignore_prefix(std::string_view prefix) {
  for (const auto& [name, tensor] : tensors_) {
    if (name.starts_with(prefix)) used_.insert(name);
  }
}

void TensorMap::ignore_suffix(std::string_view suffix) {
  for (const auto& [name, tensor] : tensors_) {
    if (name.ends_with(suffix)) used_.insert(name);
  }
}

void TensorMap::refuse_rest() const {
  for (const auto& [name, tensor] : tensors_) {
    if (!used_.contains(name)) fail(name, "is not a part of this architecture as its configuration describes it");
  }
}

}  // namespace cortex

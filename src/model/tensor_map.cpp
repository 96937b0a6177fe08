#include "model/tensor_map.h"

#include <fmt/core.h>

#include <utility>

#include "base/error.h"
#include "model/fields.h"

namespace cortex {
namespace {

bool is_float(DType dtype) { return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16; }
bool is_quantised(DType dtype) { return layout_of(dtype).block_elements > 1; }

}  // namespace

TensorMap::TensorMap(std::string source, std::vector<TensorView> tensors) : source_(std::move(source)) {
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

Weight TensorMap::take(const std::string& name, const Shape& shape) {
  const TensorView& tensor = get(name);
  if (tensor.shape != shape) {
    fail(name, fmt::format("shape {}, expected {}", to_string(tensor.shape), to_string(shape)));
  }
  if (!is_float(tensor.dtype) && !(shape.size() > 1 && is_quantised(tensor.dtype))) {
    fail(name, fmt::format("type {} is not one of {}", layout_of(tensor.dtype).name,
                           shape.size() > 1 ? "F32, F16, BF16, Q4_1, Q8_0" : "F32, F16, BF16"));
  }
  used_.insert(name);
  return {tensor};
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

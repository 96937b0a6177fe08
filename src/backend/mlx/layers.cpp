#include "backend/mlx/layers.h"

#include <cmath>
#include <memory>
#include <numbers>
#include <utility>
#include <vector>

#include "base/error.h"

namespace cortex {
namespace {

mx::Shape shape_of(const Weight& weight) {
  mx::Shape shape;
  for (const std::int64_t size : weight.shape()) shape.push_back(static_cast<mx::ShapeElem>(size));
  return shape;
}

// Reads into the array's own memory, so that nothing is there twice.
mx::array load_stacked(const std::vector<const Weight*>& weights) {
  mx::Shape shape = shape_of(*weights.front());
  shape[0] = 0;
  std::size_t elements = 0;
  for (const Weight* weight : weights) {
    shape[0] += shape_of(*weight)[0];
    elements += static_cast<std::size_t>(weight->elements());
  }
  mx::allocator::Data data = mx::allocator::malloc(elements * sizeof(float));
  std::span<float> left(static_cast<float*>(data.buffer().raw_ptr()), elements);
  for (const Weight* weight : weights) {
    const auto part = static_cast<std::size_t>(weight->elements());
    read_weight(*weight, left.first(part));
    left = left.subspan(part);
  }
  return mx::array(std::move(data), std::move(shape), kDtype);
}

std::vector<const Weight*> weights_of(std::initializer_list<LinearView> parts) {
  std::vector<const Weight*> weights;
  for (const LinearView& part : parts) weights.push_back(part.weight);
  return weights;
}

mx::array range_of(const mx::array& x, std::size_t axis, int begin, int end) {
  mx::Shape first(x.ndim(), 0);
  mx::Shape last = x.shape();
  first[axis] = begin;
  last[axis] = end;
  return mx::slice(x, first, last);
}

}  // namespace

mx::array load_array(const Weight& weight) { return load_stacked({&weight}); }

MlxLinear::MlxLinear(std::initializer_list<LinearView> parts) : weight_(load_stacked(weights_of(parts))) {
  std::vector<const Weight*> biases;
  for (const LinearView& part : parts) {
    if (part.bias != nullptr) biases.push_back(part.bias);
  }
  CORTEX_CHECK(biases.empty() || biases.size() == parts.size());
  if (!biases.empty()) bias_ = load_stacked(biases);
}

mx::array MlxLinear::operator()(const mx::array& x) const {
  const mx::array transposed = mx::transpose(weight_);
  return bias_ ? mx::addmm(*bias_, x, transposed) : mx::matmul(x, transposed);
}

std::size_t MlxLinear::bytes() const { return weight_.nbytes() + (bias_ ? bias_->nbytes() : 0); }

std::optional<MlxRmsNorm> load_rms_norm(const std::optional<Weight>& weight, float epsilon) {
  return weight ? std::optional(MlxRmsNorm(*weight, epsilon)) : std::nullopt;
}

MlxLayerNorm::MlxLayerNorm(const LayerNorm& norm, float epsilon) : weight_(load_array(norm.weight)), epsilon_(epsilon) {
  if (norm.bias) bias_ = load_array(*norm.bias);
}

mx::array activate(Activation activation, const mx::array& x) {
  const auto constant = [](double value) { return mx::array(static_cast<float>(value), kDtype); };
  switch (activation) {
    case Activation::silu:
      return x * mx::sigmoid(x);
    case Activation::gelu:
      return constant(0.5) * x * (constant(1.0) + mx::erf(x * constant(1.0 / std::numbers::sqrt2)));
    case Activation::gelu_tanh: {
      const mx::array inner = x + constant(0.044715) * x * x * x;
      return constant(0.5) * x * (constant(1.0) + mx::tanh(constant(std::sqrt(2.0 / std::numbers::pi)) * inner));
    }
    case Activation::tanh:
      return mx::tanh(x);
  }
  check_failed("a known activation", __FILE__, __LINE__);
}

mx::array rows(const mx::array& x, int begin, int end) { return range_of(x, 0, begin, end); }

mx::array columns(const mx::array& x, int begin, int end) { return range_of(x, 1, begin, end); }

std::span<const float> host_row(const mx::array& matrix, int row) {
  CORTEX_CHECK(matrix.flags().row_contiguous && row < matrix.shape(0));
  const std::size_t width = static_cast<std::size_t>(matrix.shape(1));
  return {matrix.data<float>() + static_cast<std::size_t>(row) * width, width};
}

mx::array attend(const mx::array& q, const mx::array& k, const mx::array& v, float scale, bool causal,
                 const std::optional<mx::array>& mask) {
  const int n = q.shape(0), heads = q.shape(1), head_dim = q.shape(2);
  const mx::array queries = mx::expand_dims(mx::transpose(q, {1, 0, 2}), 0);
  const mx::array mixed = mx::fast::scaled_dot_product_attention(queries, k, v, scale, causal ? "causal" : "", mask);
  return mx::reshape(mx::transpose(mx::squeeze(mixed, 0), {1, 0, 2}), {n, heads * head_dim});
}

mx::array reach_mask(int first_query, int queries, int first_key, int keys, int behind, int ahead) {
  const auto width = static_cast<std::size_t>(keys);
  const auto seen = std::make_unique<bool[]>(static_cast<std::size_t>(queries) * width);
  for (int i = 0; i < queries; ++i) {
    for (int j = 0; j < keys; ++j) {
      const int distance = first_query + i - first_key - j;
      seen[static_cast<std::size_t>(i) * width + static_cast<std::size_t>(j)] =
          distance <= behind && -distance <= ahead;
    }
  }
  return mx::array(seen.get(), {queries, keys}, mx::bool_);
}

}  // namespace cortex

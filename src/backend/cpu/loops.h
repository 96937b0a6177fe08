// The kernels as plain loops over float32, for whatever vectors the file that includes this compiles for: that of
// each instruction set, nobody else. Everything is in an unnamed namespace and no template of the library is used:
// the linker keeps one copy of those, which must not be one that needs wider vectors than the processor has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backend/cpu/kernels.h"

#define CORTEX_INLINE inline __attribute__((always_inline))
#define CORTEX_INLINE_LAMBDA __attribute__((always_inline))

namespace cortex {
namespace {

// NOLINTBEGIN(bugprone-implicit-widening-of-multiplication-result): offsets inside a panel or a row are small.

constexpr int kLanes = 16;
using Lanes = float __attribute__((vector_size(kLanes * sizeof(float))));
using Half = float __attribute__((vector_size(kLanes / 2 * sizeof(float))));
using Quarter = float __attribute__((vector_size(kLanes / 4 * sizeof(float))));
using LaneBits = std::int32_t __attribute__((vector_size(kLanes * sizeof(std::int32_t))));

CORTEX_INLINE Lanes load(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

CORTEX_INLINE Lanes load_some(const float* from, int count) {
  Lanes lanes = {};
  std::memcpy(&lanes, from, static_cast<std::size_t>(count) * sizeof(float));
  return lanes;
}

CORTEX_INLINE void store(float* to, Lanes lanes) { std::memcpy(to, &lanes, sizeof lanes); }

CORTEX_INLINE void store_some(float* to, Lanes lanes, int count) {
  std::memcpy(to, &lanes, static_cast<std::size_t>(count) * sizeof(float));
}

CORTEX_INLINE Lanes broadcast(float value) { return Lanes{} + value; }

CORTEX_INLINE float sum_of(Lanes lanes) {
  const Half eight = __builtin_shufflevector(lanes, lanes, 0, 1, 2, 3, 4, 5, 6, 7) +
                     __builtin_shufflevector(lanes, lanes, 8, 9, 10, 11, 12, 13, 14, 15);
  const Quarter four =
      __builtin_shufflevector(eight, eight, 0, 1, 2, 3) + __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
  return (four[0] + four[2]) + (four[1] + four[3]);
}

// Calls body(lanes, count) for every run of sixteen and for the rest.
template <typename Body>
CORTEX_INLINE void map(float* values, std::size_t count, Body body) {
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(values + i, body(load(values + i)));
  const int rest = static_cast<int>(count - i);
  if (rest > 0) store_some(values + i, body(load_some(values + i, rest)), rest);
}

// e^x by splitting off a power of two and a polynomial on the rest (the method and coefficients of Cephes' expf);
// within 2 units in the last place, clamped to float32's normal range. NaN stays NaN.
CORTEX_INLINE Lanes exp_of(Lanes x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  x = x < -87.0f ? broadcast(-87.0f) : x;
  x = x > 88.0f ? broadcast(88.0f) : x;
  const Lanes shifted = x * 1.44269504088896341f + kRound;
  const Lanes power = shifted - kRound;
  const Lanes r = (x - power * 0.693359375f) - power * -2.12194440e-4f;
  Lanes p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  LaneBits bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127) << 23;  // the low bits of `shifted` are the power itself
  Lanes scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return p * scale;
}

template <typename Term>
CORTEX_INLINE float sum_terms(const float* values, int count, Term term) {
  Lanes sums = {};
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) sums += term(load(values + i));
  if (i < count) {
    float terms[kLanes];
    store(terms, term(load_some(values + i, count - i)));
    sums += load_some(terms, count - i);
  }
  return sum_of(sums);
}

void rms_norm(const float* x, const float* weight, float epsilon, int size, float* out) {
  const float squares = sum_terms(x, size, [](Lanes v) CORTEX_INLINE_LAMBDA { return v * v; });
  const float scale = 1.0f / __builtin_sqrtf(squares / static_cast<float>(size) + epsilon);
  for (int i = 0; i < size; ++i) out[i] = x[i] * scale * weight[i];
}

void layer_norm(const float* x, const float* weight, const float* bias, float epsilon, int size, float* out) {
  const auto count = static_cast<float>(size);
  const float mean = sum_terms(x, size, [](Lanes v) CORTEX_INLINE_LAMBDA { return v; }) / count;
  const float squares = sum_terms(x, size, [mean](Lanes v) CORTEX_INLINE_LAMBDA { return (v - mean) * (v - mean); });
  const float scale = 1.0f / __builtin_sqrtf(squares / count + epsilon);
  for (int i = 0; i < size; ++i) out[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

void rotate(float* head, const float* cosines, const float* sines, int half) {
  for (int i = 0; i < half; ++i) {
    const float first = head[i];
    const float second = head[i + half];
    head[i] = first * cosines[i] - second * sines[i];
    head[i + half] = second * cosines[i] + first * sines[i];
  }
}

void score_keys(const float* query, const float* keys, std::size_t stride, int count, int dims, float scale,
                float* scores) {
  for (int i = 0; i < count; ++i) {
    const float* key = keys + static_cast<std::size_t>(i) * stride;
    Lanes sums = {};
    int k = 0;
    for (; k + kLanes <= dims; k += kLanes) sums += load(query + k) * load(key + k);
    if (k < dims) sums += load_some(query + k, dims - k) * load_some(key + k, dims - k);
    scores[i] = sum_of(sums) * scale;
  }
}

void softmax(float* values, int count) {
  float largest = values[0];
  for (int i = 1; i < count; ++i) largest = values[i] > largest ? values[i] : largest;
  map(values, static_cast<std::size_t>(count), [largest](Lanes v) CORTEX_INLINE_LAMBDA { return exp_of(v - largest); });
  const float scale = 1.0f / sum_terms(values, count, [](Lanes v) CORTEX_INLINE_LAMBDA { return v; });
  for (int i = 0; i < count; ++i) values[i] *= scale;
}

// Runs of this length are summed in float32, and those sums in double.
constexpr std::size_t kLogSumRun = 2048;

void log_sum(const float* values, std::size_t count, float* largest, double* sum) {
  Lanes most = broadcast(values[0]);
  LaneBits finite = LaneBits{} - 1;
  const auto see = [&](Lanes v) CORTEX_INLINE_LAMBDA {
    most = v > most ? v : most;
    finite &= (v - v == 0.0f);  // NOLINT(misc-redundant-expression): not of NaN, not of infinity
  };
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) see(load(values + i));
  for (; i < count; ++i) see(broadcast(values[i]));
  bool all_finite = true;
  *largest = most[0];
  for (int lane = 0; lane < kLanes; ++lane) {
    *largest = most[lane] > *largest ? most[lane] : *largest;
    all_finite = all_finite && finite[lane] != 0;
  }
  double total = all_finite ? 0.0 : __builtin_nan("");
  for (std::size_t begin = 0; begin < count; begin += kLogSumRun) {
    const auto run = static_cast<int>(count - begin < kLogSumRun ? count - begin : kLogSumRun);
    total += sum_terms(values + begin, run, [&](Lanes v) CORTEX_INLINE_LAMBDA { return exp_of(v - *largest); });
  }
  *sum = total;
}

void add_weighted(const float* weights, const float* values, std::size_t stride, int count, int dims, float* out) {
  int d = 0;
  for (; d + kLanes <= dims; d += kLanes) {
    Lanes sum = load(out + d);
    for (int i = 0; i < count; ++i) sum += load(values + static_cast<std::size_t>(i) * stride + d) * weights[i];
    store(out + d, sum);
  }
  for (; d < dims; ++d) {
    for (int i = 0; i < count; ++i) out[d] += values[static_cast<std::size_t>(i) * stride + d] * weights[i];
  }
}

// Within 1.5e-7 of erf (Abramowitz, Stegun 1964, 7.1.26).
CORTEX_INLINE Lanes erf_of(Lanes x) {
  const Lanes size = x < 0.0f ? -x : x;
  const Lanes t = 1.0f / (size * 0.3275911f + 1.0f);
  Lanes p = t * 1.061405429f - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const Lanes value = 1.0f - p * t * exp_of(-size * size);
  return x < 0.0f ? -value : value;
}

CORTEX_INLINE Lanes activated(Activation activation, Lanes v) {
  switch (activation) {
    case Activation::silu:
      return v / (exp_of(-v) + 1.0f);
    case Activation::gelu:
      return v * 0.5f * (erf_of(v * 0.70710678118654752f) + 1.0f);
    case Activation::gelu_tanh: {
      const Lanes u = (v + v * v * v * 0.044715f) * 0.79788456080286536f;
      return v * (1.0f - 1.0f / (exp_of(u + u) + 1.0f));  // (1 + tanh u) / 2 = 1 - 1 / (e^2u + 1)
    }
    case Activation::tanh:
      return 1.0f - 2.0f / (exp_of(v + v) + 1.0f);
  }
  __builtin_unreachable();
}

void activate(Activation activation, float* values, std::size_t count) {
  map(values, count, [activation](Lanes v) CORTEX_INLINE_LAMBDA { return activated(activation, v); });
}

CORTEX_INLINE std::int32_t largest_of(LaneBits lanes) {
  using Eight = std::int32_t __attribute__((vector_size(8 * sizeof(std::int32_t))));
  using Four = std::int32_t __attribute__((vector_size(4 * sizeof(std::int32_t))));
  const Eight low = __builtin_shufflevector(lanes, lanes, 0, 1, 2, 3, 4, 5, 6, 7);
  const Eight high = __builtin_shufflevector(lanes, lanes, 8, 9, 10, 11, 12, 13, 14, 15);
  const Eight eight = low > high ? low : high;
  const Four first = __builtin_shufflevector(eight, eight, 0, 1, 2, 3);
  const Four second = __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
  const Four four = first > second ? first : second;
  const std::int32_t even = four[0] > four[2] ? four[0] : four[2];
  const std::int32_t odd = four[1] > four[3] ? four[1] : four[3];
  return even > odd ? even : odd;
}

CORTEX_INLINE std::int32_t sum_of(LaneBits lanes) {
  using Eight = std::int32_t __attribute__((vector_size(8 * sizeof(std::int32_t))));
  using Four = std::int32_t __attribute__((vector_size(4 * sizeof(std::int32_t))));
  const Eight eight = __builtin_shufflevector(lanes, lanes, 0, 1, 2, 3, 4, 5, 6, 7) +
                      __builtin_shufflevector(lanes, lanes, 8, 9, 10, 11, 12, 13, 14, 15);
  const Four four =
      __builtin_shufflevector(eight, eight, 0, 1, 2, 3) + __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
  return (four[0] + four[2]) + (four[1] + four[3]);
}

// A group of 32 columns at a time. The largest magnitude is found among the bits, where NaN is above infinity: values
// that are not finite end in a scale that is not, and so in every product.
void quantise(const float* x, int columns, std::int8_t* codes, float* scales, float* scaled_sums,
              std::int32_t* negative_sums) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an even integer
  constexpr float kLeast = 1e-30f;       // below it a group is all zeros
  using Bytes = std::int8_t __attribute__((vector_size(kLanes)));
  for (int group = 0; group < columns / 32; ++group, x += 32, codes += 32) {
    const Lanes values[2] = {load(x), load(x + kLanes)};
    LaneBits bits[2];
    std::memcpy(bits, values, sizeof bits);
    bits[0] &= 0x7fffffff;
    bits[1] &= 0x7fffffff;
    const std::int32_t most = largest_of(bits[0] > bits[1] ? bits[0] : bits[1]);
    float size;
    std::memcpy(&size, &most, sizeof size);
    const float scale = size / 127.0f;
    const float inverse = size > kLeast ? 127.0f / size : 0.0f;
    std::int32_t sum = 0;
    for (int half = 0; half < 2; ++half) {
      const Lanes shifted = values[half] * inverse + kRound;
      LaneBits integers;
      std::memcpy(&integers, &shifted, sizeof integers);
      integers = (integers - 0x4b400000) << 24 >> 24;  // less kRound's bits; a byte whatever it was
      const Bytes bytes = __builtin_convertvector(integers, Bytes);
      std::memcpy(codes + half * kLanes, &bytes, sizeof bytes);
      const std::int32_t part = sum_of(integers);
      negative_sums[2 * group + half] = -part;
      sum += part;
    }
    scales[group] = scale;
    scaled_sums[group] = scale * static_cast<float>(sum);
  }
}

// To the nearest, ties to even; NaN stays NaN.
void round_to_bf16(const float* x, std::size_t count, std::uint16_t* out) {
  using Halves = std::uint16_t __attribute__((vector_size(kLanes * sizeof(std::uint16_t))));
  using Words = std::uint32_t __attribute__((vector_size(kLanes * sizeof(std::uint32_t))));  // that may wrap around
  const auto rounded = [](Lanes values) CORTEX_INLINE_LAMBDA {
    Words bits;
    std::memcpy(&bits, &values, sizeof bits);
    const Words nearest = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    const Words quiet = bits >> 16 | 0x40u;
    return __builtin_convertvector((bits & 0x7fffffffu) > 0x7f800000u ? quiet : nearest, Halves);
  };
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Halves halves = rounded(load(x + i));
    std::memcpy(out + i, &halves, sizeof halves);
  }
  if (i == count) return;
  const Halves halves = rounded(load_some(x + i, static_cast<int>(count - i)));
  std::memcpy(out + i, &halves, (count - i) * sizeof(std::uint16_t));
}

float quantise_head(const float* x, int head_dim, std::int8_t* codes) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an even integer
  constexpr float kLeast = 1e-30f;       // below it a head is all zeros
  using Bytes = std::int8_t __attribute__((vector_size(kLanes)));
  LaneBits most_of_lane = {};
  for (int i = 0; i < head_dim; i += kLanes) {
    const Lanes values = load_some(x + i, head_dim - i < kLanes ? head_dim - i : kLanes);
    LaneBits bits;
    std::memcpy(&bits, &values, sizeof bits);
    bits &= 0x7fffffff;
    most_of_lane = bits > most_of_lane ? bits : most_of_lane;
  }
  const std::int32_t most = largest_of(most_of_lane);
  float size;
  std::memcpy(&size, &most, sizeof size);
  const float inverse = size > kLeast ? 127.0f / size : 0.0f;
  for (int i = 0; i < head_dim; i += kLanes) {
    const int count = head_dim - i < kLanes ? head_dim - i : kLanes;
    const Lanes shifted = load_some(x + i, count) * inverse + kRound;
    LaneBits integers;
    std::memcpy(&integers, &shifted, sizeof integers);
    integers = (integers - 0x4b400000) << 24 >> 24;  // less kRound's bits; a byte whatever it was
    const Bytes bytes = __builtin_convertvector(integers, Bytes);
    std::memcpy(codes + i, &bytes, static_cast<std::size_t>(count));
  }
  return size / 127.0f;
}

void widen_codes(const std::int8_t* codes, const float* scales, std::size_t count, std::uint16_t* out) {
  using Bytes = std::int8_t __attribute__((vector_size(kLanes)));
  for (std::size_t i = 0; i < count; i += kLanes) {
    Bytes bytes;
    std::memcpy(&bytes, codes + i, sizeof bytes);
    const Lanes values = __builtin_convertvector(bytes, Lanes) * load(scales + i % 32);
    float products[kLanes];
    store(products, values);
    round_to_bf16(products, kLanes, out + i);
  }
}

void multiply(float* values, const float* factors, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) values[i] *= factors[i];
}

void add(float* values, const float* terms, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) values[i] += terms[i];
}

// NOLINTEND(bugprone-implicit-widening-of-multiplication-result)

}  // namespace
}  // namespace cortex

#include "backend/cpu/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"

namespace cortex {
namespace {

using Floats = std::vector<float>;

Floats random_floats(std::mt19937& random, std::size_t size, float spread = 1.0f) {
  std::normal_distribution<float> normal(0.0f, spread);
  Floats values(size);
  for (float& value : values) value = normal(random);
  return values;
}

std::vector<std::string> usable_names() {
  std::vector<std::string> names;
  for (const Kernels* kernels : usable_kernels()) names.emplace_back(kernels->name);
  return names;
}

// Each set that this processor can run.
class KernelsTest : public testing::TestWithParam<std::string> {
 protected:
  const Kernels& kernels_ = kernels_named(GetParam());
};

INSTANTIATE_TEST_SUITE_P(Sets, KernelsTest, testing::ValuesIn(usable_names()),
                         [](const auto& info) { return info.param; });

TEST_P(KernelsTest, CodesOfHeadsAndTheirWidthAreThePlainOnesBitForBit) {
  std::mt19937 random(9);
  for (const int dim : {1, 2, 15, 16, 17, 64, 96, 256}) {
    for (const float spread : {1.0f, 1e-35f, 1e30f, 0.0f}) {
      const auto n = static_cast<std::size_t>(dim);
      Floats x = random_floats(random, n);
      for (float& value : x) value *= spread;
      std::vector<std::int8_t> codes(n), plain(n);
      const float scale = kernels_.quantise_head(x.data(), dim, codes.data());
      EXPECT_EQ(scale, kPortableKernels.quantise_head(x.data(), dim, plain.data()));
      EXPECT_EQ(codes, plain);
      for (std::size_t i = 0; i < n && spread > 1e-30f; ++i) {
        EXPECT_LE(std::abs(codes[i] * static_cast<double>(scale) - x[i]), 0.5001 * scale) << dim;
      }
    }
  }
  for (const std::size_t count : {32, 96, 512}) {
    const Floats scales = random_floats(random, 32);
    std::vector<std::int8_t> codes(count);
    for (std::int8_t& code : codes) code = static_cast<std::int8_t>(random());
    std::vector<std::uint16_t> out(count), one(1);
    kernels_.widen_codes(codes.data(), scales.data(), count, out.data());
    for (std::size_t i = 0; i < count; ++i) {
      const float value = static_cast<float>(codes[i]) * scales[i % 32];
      kPortableKernels.round_to_bf16(&value, 1, one.data());
      EXPECT_EQ(out[i], one[0]) << i;
    }
  }
}

TEST_P(KernelsTest, NormsAgreeWithDoubleLoops) {
  std::mt19937 random(3);
  for (const int size : {1, 2, 15, 16, 17, 48, 65, 576}) {
    const auto n = static_cast<std::size_t>(size);
    const Floats x = random_floats(random, n, 2.0f);
    const Floats weight = random_floats(random, n);
    const Floats bias = random_floats(random, n);
    double mean = 0.0, squares = 0.0, variance = 0.0;
    for (const float v : x) mean += v / static_cast<double>(size);
    for (const float v : x) squares += static_cast<double>(v) * v / size;
    for (const float v : x) variance += (v - mean) * (v - mean) / size;
    Floats rms(n), layer(n);
    kernels_.rms_norm(x.data(), weight.data(), 1e-5f, size, rms.data());
    kernels_.layer_norm(x.data(), weight.data(), bias.data(), 1e-5f, size, layer.data());
    for (std::size_t i = 0; i < n; ++i) {
      EXPECT_NEAR(rms[i], x[i] / std::sqrt(squares + 1e-5) * weight[i], 3e-6) << size;
      EXPECT_NEAR(layer[i], (x[i] - mean) / std::sqrt(variance + 1e-5) * weight[i] + bias[i], 2e-5) << size;
    }
  }
}

TEST_P(KernelsTest, RotateTurnsPairsOfHalves) {
  std::mt19937 random(4);
  for (const int half : {1, 3, 8, 32}) {
    const auto n = static_cast<std::size_t>(half);
    const Floats before = random_floats(random, 2 * n + 2);
    const Floats angles = random_floats(random, n);
    Floats head = before, cosines, sines;
    for (const float angle : angles) {
      cosines.push_back(std::cos(angle));
      sines.push_back(std::sin(angle));
    }
    kernels_.rotate(head.data(), cosines.data(), sines.data(), half);
    for (std::size_t i = 0; i < n; ++i) {
      const double a = before[i], b = before[i + n], t = angles[i];
      EXPECT_NEAR(head[i], a * std::cos(t) - b * std::sin(t), 1e-6);
      EXPECT_NEAR(head[i + n], b * std::cos(t) + a * std::sin(t), 1e-6);
    }
    EXPECT_EQ(head[2 * n], before[2 * n]);  // beyond the pairs
  }
}

TEST_P(KernelsTest, AttentionPartsAgreeWithDoubleLoops) {
  std::mt19937 random(5);
  for (const int dims : {1, 8, 16, 20, 64, 80}) {
    for (const int count : {1, 2, 16, 33}) {
      const auto d = static_cast<std::size_t>(dims), c = static_cast<std::size_t>(count), stride = d + 5;
      const Floats query = random_floats(random, d);
      const Floats rows = random_floats(random, c * stride);
      Floats scores(c);
      kernels_.score_keys(query.data(), rows.data(), stride, count, dims, 0.3f, scores.data());
      Floats sum = random_floats(random, d);
      const Floats before = sum;
      kernels_.add_weighted(scores.data(), rows.data(), stride, count, dims, sum.data());
      for (std::size_t i = 0; i < c; ++i) {
        double expected = 0.0;
        for (std::size_t k = 0; k < d; ++k) expected += 0.3 * query[k] * rows[i * stride + k];
        EXPECT_NEAR(scores[i], expected, 1e-5) << dims;
      }
      for (std::size_t k = 0; k < d; ++k) {
        double expected = before[k];
        for (std::size_t i = 0; i < c; ++i) expected += static_cast<double>(scores[i]) * rows[i * stride + k];
        EXPECT_NEAR(sum[k], expected, 2e-5) << dims;
      }
    }
  }
}

TEST_P(KernelsTest, SoftmaxAgreesWithDoubleLoops) {
  std::mt19937 random(6);
  for (const int count : {1, 2, 15, 16, 17, 100, 1000}) {
    for (const float spread : {0.5f, 10.0f, 100.0f}) {
      const Floats before = random_floats(random, static_cast<std::size_t>(count), spread);
      double largest = -std::numeric_limits<double>::infinity(), sum = 0.0;
      for (const float v : before) largest = std::max<double>(largest, v);
      for (const float v : before) sum += std::exp(v - largest);
      Floats values = before;
      kernels_.softmax(values.data(), count);
      for (std::size_t i = 0; i < values.size(); ++i) {
        const double expected = std::exp(before[i] - largest) / sum;
        // The difference to the largest is rounded to float32 before it is an exponent.
        const double tolerance = 1e-6 + std::abs(before[i] - largest) * 0x1p-24;
        EXPECT_NEAR(values[i], expected, tolerance * expected + 1e-37) << count;
      }
    }
  }
}

TEST_P(KernelsTest, SoftmaxKeepsNaN) {
  Floats values = {1.0f, std::numeric_limits<float>::quiet_NaN(), 2.0f};
  kernels_.softmax(values.data(), 3);
  EXPECT_TRUE(std::isnan(values[1]));
}

TEST_P(KernelsTest, ActivationsAgreeWithTheirFormulas) {
  Floats inputs;
  for (int i = -2000; i <= 2000; ++i) inputs.push_back(static_cast<float>(i) * 0.01f);
  inputs.insert(inputs.end(), {-1e4f, 1e4f, 0.0f, 1e-20f, -100.0f, 100.0f});
  const auto expect = [&](Activation activation, auto formula) {
    Floats values = inputs;
    kernels_.activate(activation, values.data(), values.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const double x = inputs[i];
      EXPECT_NEAR(values[i], formula(x), 4e-7 * std::max(1.0, std::abs(x))) << x;
    }
  };
  expect(Activation::silu, [](double x) { return x / (1.0 + std::exp(-x)); });
  expect(Activation::gelu, [](double x) { return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0))); });
  expect(Activation::gelu_tanh, [](double x) {
    return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
  });
  expect(Activation::tanh, [](double x) { return std::tanh(x); });
}

TEST_P(KernelsTest, ElementwiseOperations) {
  Floats values = {1, 2, 3, 4, 5};
  const Floats other = {2, 0, -1, 10, 100};
  kernels_.multiply(values.data(), other.data(), 4);
  EXPECT_EQ(values, (Floats{2, 0, -3, 40, 5}));
  kernels_.add(values.data(), other.data(), 3);
  EXPECT_EQ(values, (Floats{4, 0, -4, 40, 5}));
}

// Runs `compute` on this set and on the portable one and expects the same bits.
void expect_portable_bits(const Kernels& kernels, const std::string& what,
                          const std::function<Floats(const Kernels&)>& compute) {
  const Floats got = compute(kernels), expected = compute(kPortableKernels);
  ASSERT_EQ(got.size(), expected.size());
  EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)), 0) << what;
}

TEST_P(KernelsTest, LogSumAgreesWithDoublesAndHasThePortableBits) {
  std::mt19937 random(7);
  for (const std::size_t size : {1, 2, 15, 16, 17, 2047, 2048, 2049, 49152}) {
    Floats values = random_floats(random, size, 8.0f);
    float largest = 0.0f;
    double sum = 0.0, expected = 0.0;
    kernels_.log_sum(values.data(), size, &largest, &sum);
    const float most = *std::max_element(values.begin(), values.end());
    for (const float value : values) expected += std::exp(static_cast<double>(value) - most);
    EXPECT_EQ(largest, most);
    EXPECT_NEAR(sum, expected, 1e-5 * expected) << size;
    expect_portable_bits(kernels_, "log_sum", [&](const Kernels& kernels) {
      float found = 0.0f;
      double total = 0.0;
      kernels.log_sum(values.data(), size, &found, &total);
      return Floats{found, static_cast<float>(total)};
    });
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()}) {
      Floats sick = values;
      sick[size / 2] = bad;
      kernels_.log_sum(sick.data(), size, &largest, &sum);
      EXPECT_TRUE(std::isnan(sum)) << bad << " among " << size;
    }
  }
}

TEST_P(KernelsTest, NormsHaveThePortableBits) {
  std::mt19937 random(8);
  for (const int size : {1, 2, 15, 16, 17, 63, 576, 1000}) {
    const auto n = static_cast<std::size_t>(size);
    const Floats x = random_floats(random, n, 5.0f), weight = random_floats(random, n), bias = random_floats(random, n);
    expect_portable_bits(kernels_, "rms_norm", [&](const Kernels& kernels) {
      Floats out(n);
      kernels.rms_norm(x.data(), weight.data(), 1e-5f, size, out.data());
      return out;
    });
    expect_portable_bits(kernels_, "layer_norm", [&](const Kernels& kernels) {
      Floats out(n);
      kernels.layer_norm(x.data(), weight.data(), bias.data(), 1e-12f, size, out.data());
      return out;
    });
  }
}

TEST_P(KernelsTest, AttentionHasThePortableBits) {
  std::mt19937 random(9);
  for (const int dims : {1, 8, 16, 20, 64, 80}) {
    for (const int count : {1, 2, 16, 33, 257}) {
      const auto d = static_cast<std::size_t>(dims), c = static_cast<std::size_t>(count), stride = d + 5;
      const Floats query = random_floats(random, d, 2.0f), rows = random_floats(random, c * stride, 2.0f);
      const Floats before = random_floats(random, d);
      expect_portable_bits(kernels_, "scores, softmax, sum", [&](const Kernels& kernels) {
        Floats scores(c), out = before;
        kernels.score_keys(query.data(), rows.data(), stride, count, dims, 0.3f, scores.data());
        kernels.softmax(scores.data(), count);
        kernels.add_weighted(scores.data(), rows.data(), stride, count, dims, out.data());
        out.insert(out.end(), scores.begin(), scores.end());
        return out;
      });
    }
  }
}

TEST_P(KernelsTest, ElementwiseOperationsHaveThePortableBits) {
  std::mt19937 random(10);
  for (const std::size_t size : {1u, 2u, 15u, 16u, 17u, 50u, 1537u}) {
    Floats x = random_floats(random, size, 8.0f);
    x.front() = -1e4f;
    x.back() = 1e-20f;
    const Floats other = random_floats(random, size);
    for (const Activation activation : {Activation::silu, Activation::gelu, Activation::gelu_tanh, Activation::tanh}) {
      expect_portable_bits(kernels_, "activate, multiply, add", [&](const Kernels& kernels) {
        Floats out = x;
        kernels.activate(activation, out.data(), size);
        kernels.multiply(out.data(), other.data(), size);
        kernels.add(out.data(), x.data(), size);
        return out;
      });
    }
    expect_portable_bits(kernels_, "rotate", [&](const Kernels& kernels) {
      Floats out = x;
      out.insert(out.end(), x.rbegin(), x.rend());
      kernels.rotate(out.data(), other.data(), x.data(), static_cast<int>(size));
      return out;
    });
  }
}

TEST(Kernels, TheWidestIsChosenUnlessOneIsNamed) {
  const std::vector<const Kernels*> usable = usable_kernels();
  EXPECT_EQ(usable.front()->name, "portable");
  EXPECT_EQ(&kernels_named(""), usable.back());
  for (const Kernels* kernels : usable) EXPECT_EQ(&kernels_named(kernels->name), kernels);
  try {
    kernels_named("avx9");
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_option);
    EXPECT_NE(error.message().find("CORTEX_CPU_ISA: \"avx9\""), std::string::npos) << error.what();
    EXPECT_NE(error.message().find("portable"), std::string::npos) << error.what();
  }
}

TEST(Kernels, TheEnvironmentNamesOne) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto exit_with_choice = [] {
    setenv("CORTEX_CPU_ISA", "portable", 1);
    std::_Exit(kernels().name == "portable" ? 0 : 1);
  };
  EXPECT_EXIT(exit_with_choice(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace cortex

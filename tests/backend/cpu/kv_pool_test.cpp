#include "backend/cpu/kv_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "backend/cpu/attention_task.h"
#include "backend/cpu/kernels.h"
#include "base/error.h"

namespace cortex {
namespace {

TEST(KvPool, PlanesAreDisjoint) {
  KvPool pool(3, 2, 8);
  pool.reserve(4);
  EXPECT_EQ(pool.geometry().block_bytes, std::size_t{3} * 2 * 2 * 16 * 8 * sizeof(float));
  std::set<float*> starts;
  for (BlockId block = 0; block < 4; ++block) {
    for (int layer = 0; layer < 3; ++layer) {
      for (int head = 0; head < 2; ++head) {
        starts.insert(pool.keys(block, layer, head));
        starts.insert(pool.values(block, layer, head));
      }
    }
  }
  EXPECT_EQ(starts.size(), 48u);
  for (auto at = starts.begin(); std::next(at) != starts.end(); ++at) EXPECT_GE(*std::next(at) - *at, 16 * 8);
  EXPECT_LE(*starts.rbegin() + std::ptrdiff_t{16} * 8,
            reinterpret_cast<float*>(reinterpret_cast<std::byte*>(*starts.begin()) + pool.memory_bytes()));
}

TEST(KvPool, BlocksComeBackAsTheyWere) {
  KvPool pool(2, 1, 4);
  pool.reserve(5);
  const std::size_t bytes = pool.geometry().block_bytes;
  std::vector<std::byte> content(2 * bytes);
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<std::byte>(i * 7 % 251);
  const std::vector<BlockId> there = {4, 1}, swapped = {1, 4};
  pool.write(there, content);
  std::vector<std::byte> back(2 * bytes);
  pool.read(swapped, back);
  EXPECT_TRUE(std::equal(content.begin(), content.begin() + static_cast<std::ptrdiff_t>(bytes),
                         back.begin() + static_cast<std::ptrdiff_t>(bytes)));
  EXPECT_TRUE(std::equal(content.begin() + static_cast<std::ptrdiff_t>(bytes), content.end(), back.begin()));
  // Only its own block is discarded.
  pool.discard(std::vector<BlockId>{4});
  pool.read(there, back);
  EXPECT_TRUE(std::equal(content.begin() + static_cast<std::ptrdiff_t>(bytes), content.end(),
                         back.begin() + static_cast<std::ptrdiff_t>(bytes)));
}

// [count]
std::vector<float> numbers(int count, float first) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = first + static_cast<float>(i) / 3.0f;
  return values;
}

float rounded(float value) {
  std::uint16_t bits = 0;
  kernels().round_to_bf16(&value, 1, &bits);
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

TEST(KvPool, GivesWhatWasPut) {
  for (const KvPrecision precision : {KvPrecision::f32, KvPrecision::bf16}) {
    for (const int dim : {2, 6, 16, 48, 80, 256}) {
      KvPool pool(2, 3, dim, precision);
      pool.reserve(2);
      const auto first = [](int block, int layer, int head, int token) {
        return static_cast<float>(((block * 2 + layer) * 3 + head) * 16 + token) - 90.0f;
      };
      const auto each = [&](auto&& visit) {
        for (int block = 0; block < 2; ++block) {
          for (int layer = 0; layer < 2; ++layer) {
            for (int at = 0; at < 3 * kBlockTokens; ++at) visit(block, layer, at / kBlockTokens, at % kBlockTokens);
          }
        }
      };
      each([&](int block, int layer, int head, int token) {
        const float start = first(block, layer, head, token);
        pool.put(block, layer, head, token, numbers(dim, start).data(), numbers(dim, -start).data());
      });
      each([&](int block, int layer, int head, int token) {
        std::vector<float> keys = numbers(dim, first(block, layer, head, token));
        std::vector<float> values = numbers(dim, -first(block, layer, head, token));
        if (precision == KvPrecision::bf16) {
          std::transform(keys.begin(), keys.end(), keys.begin(), rounded);
          std::transform(values.begin(), values.end(), values.begin(), rounded);
        }
        std::vector<float> key(keys.size()), value(keys.size());
        pool.get(block, layer, head, token, key.data(), value.data());
        EXPECT_EQ(key, keys) << "head_dim " << dim;
        EXPECT_EQ(value, values) << "head_dim " << dim;
      });
    }
  }
}

// Of [head_dim]: codes of the largest element, as plain loops find them.
std::vector<float> of_8_bits(const std::vector<float>& values) {
  float largest = 0.0f;
  for (const float value : values) largest = std::max(largest, std::abs(value));
  const float scale = largest / 127.0f, inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
  std::vector<float> kept;
  for (const float value : values) kept.push_back(std::nearbyint(value * inverse) * scale);
  return kept;
}

TEST(KvPool, EightBitsGiveTheNearestCodesAndWidenToTheNearestBfloat16) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0.0f, 3.0f);
  for (const int dim : {2, 6, 16, 48, 80, 256}) {
    KvPool pool(3, 2, dim, KvPrecision::q8), wide(1, 2, dim, KvPrecision::bf16);
    EXPECT_EQ(pool.geometry().block_bytes,
              std::size_t{3} * 2 * 16 * static_cast<std::size_t>(dim + padded_head_dim(dim) + 8));
    EXPECT_NE(pool.geometry().layout, wide.geometry().layout);
    pool.reserve(4);
    wide.reserve(4);
    std::vector<std::vector<float>> keys, values;
    for (int at = 0; at < 2 * kBlockTokens; ++at) {
      for (auto* list : {&keys, &values}) {
        std::vector<float>& made = list->emplace_back(static_cast<std::size_t>(dim));
        for (float& value : made) value = at == 7 ? 0.0f : normal(random);
      }
      pool.put(3, 1, at / kBlockTokens, at % kBlockTokens, keys.back().data(), values.back().data());
    }
    pool.widen(3, 1, &wide);
    std::vector<float> key(static_cast<std::size_t>(dim)), value(key);
    for (int at = 0; at < 2 * kBlockTokens; ++at) {
      std::vector<float> expected_key = of_8_bits(keys[static_cast<std::size_t>(at)]);
      std::vector<float> expected_value = of_8_bits(values[static_cast<std::size_t>(at)]);
      pool.get(3, 1, at / kBlockTokens, at % kBlockTokens, key.data(), value.data());
      EXPECT_EQ(key, expected_key) << dim;
      EXPECT_EQ(value, expected_value) << dim;
      std::ranges::transform(expected_key, expected_key.begin(), rounded);
      std::ranges::transform(expected_value, expected_value.begin(), rounded);
      wide.get(3, 0, at / kBlockTokens, at % kBlockTokens, key.data(), value.data());
      EXPECT_EQ(key, expected_key) << dim;
      EXPECT_EQ(value, expected_value) << dim;
    }
  }
}

TEST(KvPool, EightBitsHideNothingThatIsNotFinite) {
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    KvPool pool(1, 1, 16, KvPrecision::q8), wide(1, 1, 16, KvPrecision::bf16);
    pool.reserve(1);
    wide.reserve(1);
    std::vector<float> key(16, 1.0f), value(16, 2.0f);
    key[5] = value[11] = bad;
    pool.put(0, 0, 0, 3, key.data(), value.data());
    pool.widen(0, 0, &wide);
    wide.get(0, 0, 0, 3, key.data(), value.data());
    EXPECT_FALSE(std::ranges::any_of(key, [](float x) { return std::isfinite(x); }));
    EXPECT_FALSE(std::ranges::any_of(value, [](float x) { return std::isfinite(x); }));
  }
}

// Where attention_task.h has them.
TEST(KvPool, LaysOutBfloat16ForTheKernels) {
  KvPool pool(2, 2, 6, KvPrecision::bf16);
  pool.reserve(2);
  EXPECT_EQ(pool.geometry().block_bytes, std::size_t{2} * 2 * 16 * (6 + 16) * sizeof(std::uint16_t));
  EXPECT_NE(pool.geometry().layout, KvPool(2, 2, 6).geometry().layout);
  const std::vector<float> key = {1, 2, 3, 4, 5, 6}, value = {-1, -2, -3, -4, -5, -6};
  pool.put(1, 1, 1, 9, key.data(), value.data());
  const auto bits = [](float number) { return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(number) >> 16); };
  std::vector<std::uint16_t> keys(std::size_t{3} * 16 * 2), values(std::size_t{8} * 16 * 2);
  for (std::size_t d = 0; d < 6; ++d) {
    keys[(d / 2 * 16 + 9) * 2 + d % 2] = bits(key[d]);
    values[(std::size_t{9} / 2 * 16 + d) * 2 + 9 % 2] = bits(value[d]);
  }
  EXPECT_TRUE(std::equal(keys.begin(), keys.end(), pool.bf16_keys(1, 1, 1)));
  EXPECT_TRUE(std::equal(values.begin(), values.end(), pool.bf16_values(1, 1, 1)));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(pool.bf16_values(1, 1, 1)) % 64, 0u);
}

TEST(KvPool, RefusesTheOtherPrecision) {
  EXPECT_THROW(KvPool(1, 1, 5, KvPrecision::bf16), CheckFailure);
  EXPECT_THROW(KvPool(1, 1, 258, KvPrecision::bf16), CheckFailure);
  EXPECT_THROW(KvPool(1, 1, 258, KvPrecision::q8), CheckFailure);
  KvPool bf16(1, 1, 4, KvPrecision::bf16), f32(1, 1, 4);
  bf16.reserve(1);
  f32.reserve(1);
  EXPECT_THROW(bf16.keys(0, 0, 0), CheckFailure);
  EXPECT_THROW(bf16.values(0, 0, 0), CheckFailure);
  EXPECT_THROW(f32.bf16_keys(0, 0, 0), CheckFailure);
  EXPECT_THROW(f32.bf16_values(0, 0, 0), CheckFailure);
}

// Attention over a pool whose blocks held something else before, cut short by where the context ends.
TEST(KvPool, StaleTokensAreNotSeen) {
  constexpr int kDim = 32, kContext = 37;
  KvPool fresh(1, 1, kDim, KvPrecision::bf16), stale(1, 1, kDim, KvPrecision::bf16);
  fresh.reserve(3);
  stale.reserve(3);
  const std::vector<float> nan(kDim, std::numeric_limits<float>::quiet_NaN());
  for (int position = 0; position < 48; ++position) {
    stale.put(position / 16, 0, 0, position % 16, nan.data(), nan.data());
  }
  for (int position = 0; position < kContext; ++position) {
    const std::vector<float> key = numbers(kDim, -static_cast<float>(position % 7)), value = numbers(kDim, 1.0f);
    for (KvPool* pool : {&fresh, &stale}) pool->put(position / 16, 0, 0, position % 16, key.data(), value.data());
  }
  const std::vector<float> query = numbers(kDim, -5.0f);
  const MappedMemory scratch(attention_scratch_floats(kDim) * sizeof(float));
  const auto attend = [&](const Kernels& kernels, const KvPool& pool) {
    const std::uint16_t* keys[] = {pool.bf16_keys(0, 0, 0), pool.bf16_keys(1, 0, 0), pool.bf16_keys(2, 0, 0)};
    const std::uint16_t* values[] = {pool.bf16_values(0, 0, 0), pool.bf16_values(1, 0, 0), pool.bf16_values(2, 0, 0)};
    std::vector<float> out(kDim);
    const AttentionRow row = {query.data(), out.data(), 0, kContext - 1};
    kernels.attend({keys, values, kDim, 0.125f, &row, 1, scratch.floats()});
    return out;
  };
  for (const Kernels* kernels : usable_kernels()) {
    EXPECT_EQ(attend(*kernels, stale), attend(*kernels, fresh)) << kernels->name;
    EXPECT_NEAR(attend(*kernels, fresh)[3], 2.0f, 1e-6f) << kernels->name;
  }
}

TEST(KvPool, RefusesBlocksThatAreNotReserved) {
  KvPool pool(1, 1, 4);
  pool.reserve(2);
  std::vector<std::byte> bytes(pool.geometry().block_bytes);
  const std::vector<BlockId> beyond = {2}, good = {1};
  EXPECT_THROW(pool.read(beyond, bytes), CheckFailure);
  EXPECT_THROW(pool.write(beyond, bytes), CheckFailure);
  EXPECT_THROW(pool.discard(beyond), CheckFailure);
  bytes.pop_back();
  EXPECT_THROW(pool.read(good, bytes), CheckFailure);
  EXPECT_THROW(pool.write(good, bytes), CheckFailure);
}

}  // namespace
}  // namespace cortex

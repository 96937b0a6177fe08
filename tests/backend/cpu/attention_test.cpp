#include "backend/cpu/attention_task.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/kernels.h"

namespace cortex {
namespace {

using Floats = std::vector<float>;

constexpr int kBlock = 16;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

float rounded(float value) {
  std::uint16_t bits = 0;
  kPortableKernels.round_to_bf16(&value, 1, &bits);
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

std::uint16_t bf16(float value) { return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16); }

// What a row sees of the context.
struct Range {
  int first = 0, last = 0;
};

// Keys and values of one head in blocks that lie anywhere, all else NaN; and queries.
class Problem {
 public:
  Problem(int head_dim, int context, std::vector<Range> ranges, unsigned seed = 1)
      : head_dim_(head_dim),
        context_(context),
        ranges_(std::move(ranges)),
        scale_(1.0f / std::sqrt(static_cast<float>(head_dim))),
        random_(seed) {
    const int blocks = (context + kBlock - 1) / kBlock;
    keys_.assign(static_cast<std::size_t>(blocks), Block(static_cast<std::size_t>(kBlock * head_dim), bf16(kNaN)));
    values_.assign(keys_.size(), Block(static_cast<std::size_t>(kBlock * padded_head_dim(head_dim)), bf16(kNaN)));
    for (int position = 0; position < context; ++position) {
      for (int d = 0; d < head_dim; ++d) {
        set_key(position, d, 2.0f * normal());
        set_value(position, d, normal());
      }
    }
    queries_.resize(ranges_.size() * static_cast<std::size_t>(head_dim));
    for (float& query : queries_) query = 2.0f * normal();
  }

  int head_dim() const { return head_dim_; }
  int rows() const { return static_cast<int>(ranges_.size()); }
  float* query(int row) { return queries_.data() + static_cast<std::ptrdiff_t>(row) * head_dim_; }
  void set_key(int position, int d, float value) {
    keys_[block_of(position)][key_at(position, d)] = bf16(rounded(value));
  }
  void set_value(int position, int d, float value) {
    values_[block_of(position)][value_at(position, d)] = bf16(rounded(value));
  }
  double key(int position, int d) const { return value_of(keys_[block_of(position)][key_at(position, d)]); }
  double value(int position, int d) const { return value_of(values_[block_of(position)][value_at(position, d)]); }
  float scale() const { return scale_; }
  void set_scale(float scale) { scale_ = scale; }
  Range range(int row) const { return ranges_[static_cast<std::size_t>(row)]; }

  // The results of these rows in one task, [rows, head_dim]. Blocks that none of them sees are null.
  Floats run(const Kernels& kernels, const std::vector<int>& which) {
    std::vector<const std::uint16_t*> keys(keys_.size()), values(keys_.size());
    Floats out(which.size() * static_cast<std::size_t>(head_dim_) + 1, -7.0f);
    std::vector<AttentionRow> rows;
    for (const int row : which) {
      const auto [first, last] = range(row);
      for (std::size_t block = block_of(first); block <= block_of(last); ++block) {
        keys[block] = keys_[block].data();
        values[block] = values_[block].data();
      }
      rows.push_back({query(row), out.data() + rows.size() * static_cast<std::size_t>(head_dim_), first, last});
    }
    const std::size_t floats = attention_scratch_floats(head_dim_);
    const std::unique_ptr<float, decltype(&std::free)> scratch(
        static_cast<float*>(std::aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64)), &std::free);
    std::fill_n(scratch.get(), floats, kNaN);
    kernels.attend(
        {keys.data(), values.data(), head_dim_, scale_, rows.data(), static_cast<int>(rows.size()), scratch.get()});
    EXPECT_EQ(out.back(), -7.0f);
    out.pop_back();
    return out;
  }

  Floats run(const Kernels& kernels) {
    std::vector<int> all(ranges_.size());
    for (std::size_t row = 0; row < all.size(); ++row) all[row] = static_cast<int>(row);
    return run(kernels, all);
  }

  float normal() { return normal_(random_); }

 private:
  using Block = std::vector<std::uint16_t>;

  static std::size_t block_of(int position) { return static_cast<std::size_t>(position / kBlock); }
  static double value_of(std::uint16_t bits) {
    return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16));
  }
  static std::size_t key_at(int position, int d) {
    const int pair = d / 2 * kBlock + position % kBlock;
    return 2 * static_cast<std::size_t>(pair) + static_cast<std::size_t>(d % 2);
  }
  std::size_t value_at(int position, int d) const {
    const int pair = position % kBlock / 2 * padded_head_dim(head_dim_) + d;
    return 2 * static_cast<std::size_t>(pair) + static_cast<std::size_t>(position % 2);
  }

  int head_dim_, context_;
  std::vector<Range> ranges_;
  float scale_;
  std::mt19937 random_;
  std::normal_distribution<float> normal_;
  std::vector<Block> keys_, values_;
  Floats queries_;
};

// A row in double precision, and how far from it a result may be: weights are off by 2^-8 of themselves, rounded, and
// by what the float32 sum of their scores is off; what that moves is a value's distance from the mean. Sums of values
// are off by float32's rounding once a pair.
struct Expected {
  std::vector<double> values, tolerances;
};

Expected attend_exactly(Problem& problem, int row) {
  const int dim = problem.head_dim();
  const auto [first, last] = problem.range(row);
  const int count = last - first + 1;
  constexpr double kUnit = 0x1p-23;
  std::vector<double> scores(static_cast<std::size_t>(count));
  double largest = -std::numeric_limits<double>::infinity(), sizes = 0;
  for (int i = 0; i < count; ++i) {
    double score = 0, size = 0;
    for (int d = 0; d < dim; ++d) {
      const double term = static_cast<double>(rounded(problem.query(row)[d])) * problem.key(first + i, d);
      score += term;
      size += std::abs(term);
    }
    scores[static_cast<std::size_t>(i)] = score * static_cast<double>(problem.scale());
    largest = std::max(largest, scores[static_cast<std::size_t>(i)]);
    sizes = std::max(sizes, size * static_cast<double>(problem.scale()));
  }
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - largest);
  const double weight_error = 0x1p-8 * 1.01 + (dim / 2.0 + 8) * kUnit * sizes + 1e-6;
  Expected expected;
  for (int d = 0; d < dim; ++d) {
    double mean = 0, size = 0, spread = 0;
    for (int i = 0; i < count; ++i) {
      mean += scores[static_cast<std::size_t>(i)] / sum * problem.value(first + i, d);
      size += scores[static_cast<std::size_t>(i)] / sum * std::abs(problem.value(first + i, d));
    }
    for (int i = 0; i < count; ++i) {
      spread += scores[static_cast<std::size_t>(i)] / sum * std::abs(problem.value(first + i, d) - mean);
    }
    expected.values.push_back(mean);
    expected.tolerances.push_back(weight_error * spread + (count / 2.0 + 8) * kUnit * size + 1e-30);
  }
  return expected;
}

void expect_near_exact(Problem& problem, const Floats& out, const std::string& what) {
  const auto dim = static_cast<std::size_t>(problem.head_dim());
  for (int row = 0; row < problem.rows(); ++row) {
    const Expected expected = attend_exactly(problem, row);
    for (std::size_t d = 0; d < dim; ++d) {
      const auto got = static_cast<double>(out[static_cast<std::size_t>(row) * dim + d]);
      ASSERT_LE(std::abs(got - expected.values[d]), expected.tolerances[d])
          << what << ", row " << row << ", element " << d << ": " << got << " for " << expected.values[d];
    }
  }
}

bool same_bits(const float* a, const float* b, int count) {
  return std::equal(a, a + count, b, [](float x, float y) {
    return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
  });
}

// Every row of a task against itself alone.
void expect_rows_alone_same(Problem& problem, const Kernels& kernels, const Floats& out, const std::string& what) {
  for (int row = 0; row < problem.rows(); ++row) {
    const Floats alone = problem.run(kernels, {row});
    ASSERT_TRUE(
        same_bits(alone.data(), out.data() + static_cast<std::ptrdiff_t>(row) * problem.head_dim(), problem.head_dim()))
        << what << ", row " << row;
  }
}

// The last `rows` positions of a context, each seeing itself and what is before it, `window` at most.
std::vector<Range> causal(int rows, int context, int window = 1 << 20) {
  std::vector<Range> ranges;
  for (int row = 0; row < rows; ++row) {
    const int last = std::max(0, context - rows + row);
    ranges.push_back({std::max(0, last - window + 1), last});
  }
  return ranges;
}

std::vector<Range> random_ranges(int rows, int context, std::mt19937& random) {
  std::vector<Range> ranges;
  for (int row = 0; row < rows; ++row) {
    const int a = static_cast<int>(random() % static_cast<unsigned>(context));
    const int b = static_cast<int>(random() % static_cast<unsigned>(context));
    ranges.push_back({std::min(a, b), std::max(a, b)});
  }
  return ranges;
}

std::string describe(const Kernels& kernels, const Problem& problem, int context) {
  return std::string(kernels.name) + ", head_dim " + std::to_string(problem.head_dim()) + ", " +
         std::to_string(problem.rows()) + " rows, context " + std::to_string(context);
}

void check(Problem problem, int context) {
  for (const Kernels* kernels : usable_kernels()) {
    const std::string what = describe(*kernels, problem, context);
    const Floats out = problem.run(*kernels);
    expect_near_exact(problem, out, what);
    expect_rows_alone_same(problem, *kernels, out, what);
    if (testing::Test::HasFatalFailure()) return;
  }
}

constexpr int kHeadDims[] = {2, 6, 16, 32, 48, 64, 80, 96, 128, 256};
constexpr int kRowCounts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48};
constexpr int kContexts[] = {1, 2, 3, 15, 16, 17, 127, 128, 129, 300, 700};

// Every head_dim with every context, and rows in turn.
TEST(Attention, CausalRowsAreNearDoublePrecision) {
  std::size_t next = 0;
  for (const int dim : kHeadDims) {
    for (const int context : kContexts) {
      const int rows = kRowCounts[next++ % std::size(kRowCounts)];
      ASSERT_NO_FATAL_FAILURE(check(Problem(dim, context, causal(rows, context)), context));
    }
  }
}

TEST(Attention, EveryNumberOfRows) {
  for (const int rows : kRowCounts) {
    for (const int dim : {6, 64}) {
      ASSERT_NO_FATAL_FAILURE(check(Problem(dim, 150, causal(rows, 150)), 150));
    }
  }
}

TEST(Attention, Windows) {
  for (const int window : {1, 2, 15, 16, 17, 100, 128, 129, 512}) {
    for (const int dim : {2, 48, 64, 80}) {
      ASSERT_NO_FATAL_FAILURE(check(Problem(dim, 700, causal(33, 700, window)), 700));
    }
  }
}

TEST(Attention, RowsThatAllSeeAll) {
  for (const int context : kContexts) {
    ASSERT_NO_FATAL_FAILURE(check(
        Problem(
            32, context,
            std::vector<Range>(std::min<std::size_t>(17, static_cast<std::size_t>(context)), Range{0, context - 1})),
        context));
  }
}

TEST(Attention, RowsThatSeeWhatOthersDoNot) {
  std::mt19937 random(5);
  for (const int rows : {2, 7, 48}) {
    for (const int context : {40, 300, 700}) {
      ASSERT_NO_FATAL_FAILURE(check(Problem(64, context, random_ranges(rows, context, random)), context));
    }
  }
  // Far apart, with blocks between that are null, in a tile and over tiles.
  ASSERT_NO_FATAL_FAILURE(
      check(Problem(16, 700, {{0, 3}, {100, 101}, {690, 699}, {127, 128}, {5, 5}, {511, 513}}), 700));
}

void expect_same_in_any_company(Problem& problem, const Kernels& kernels, std::mt19937& random) {
  const int dim = problem.head_dim();
  const Floats whole = problem.run(kernels);
  for (int trial = 0; trial < 20; ++trial) {
    std::vector<int> which(48);
    for (int row = 0; row < 48; ++row) which[static_cast<std::size_t>(row)] = row;
    std::shuffle(which.begin(), which.end(), random);
    which.resize(1 + random() % 48);
    const Floats out = problem.run(kernels, which);
    for (std::size_t i = 0; i < which.size(); ++i) {
      ASSERT_TRUE(same_bits(out.data() + i * static_cast<std::size_t>(dim),
                            whole.data() + static_cast<std::ptrdiff_t>(which[i]) * dim, dim))
          << kernels.name << ", head_dim " << dim << ", row " << which[i] << " among " << which.size();
    }
  }
}

// Where a value is not finite too: rows that see it don't spoil those that don't.
TEST(Attention, AnyCompanyGivesTheSameBits) {
  std::mt19937 random(6);
  std::vector<Range> ranges = causal(24, 300);
  for (const Range& range : random_ranges(24, 300, random)) ranges.push_back(range);
  for (const int dim : {32, 64, 80, 256}) {
    Problem problem(dim, 300, ranges);
    Problem spoiled = problem;
    for (const int position : {17, 130, 290}) spoiled.set_value(position, position % dim, kInfinity);
    for (const Kernels* kernels : usable_kernels()) {
      ASSERT_NO_FATAL_FAILURE(expect_same_in_any_company(problem, *kernels, random));
      ASSERT_NO_FATAL_FAILURE(expect_same_in_any_company(spoiled, *kernels, random));
    }
  }
}

// Weights add up to one as they were rounded.
TEST(Attention, EqualValuesComeBack) {
  for (const float value : {1.0f, -3.0f}) {
    Problem problem(64, 300, causal(9, 300));
    for (int position = 0; position < 300; ++position) {
      for (int d = 0; d < 64; ++d) problem.set_value(position, d, value);
    }
    for (const Kernels* kernels : usable_kernels()) {
      for (const float got : problem.run(*kernels)) ASSERT_NEAR(got, value, 2e-6f * std::abs(value)) << kernels->name;
    }
  }
}

// Scores so far apart that one position has all the weight, first, last or between, and the largest score grows.
TEST(Attention, LargeScores) {
  for (const int winner : {0, 127, 128, 200, 299}) {
    for (const int dim : {16, 64}) {
      Problem problem(dim, 300, {{0, 299}, {0, 299}});
      for (int d = 0; d < dim; ++d) {
        problem.query(0)[d] = 100.0f;
        problem.query(1)[d] = -100.0f;
        for (int position = 0; position < 300; ++position) {
          problem.set_key(position, d, position == winner ? 120.0f : static_cast<float>(position) * 0.25f);
        }
      }
      const int other = winner == 0 ? 1 : 0;
      for (const Kernels* kernels : usable_kernels()) {
        const Floats out = problem.run(*kernels);
        for (int d = 0; d < dim; ++d) {
          const auto at = static_cast<std::size_t>(d);
          ASSERT_EQ(out[at], static_cast<float>(problem.value(winner, d))) << kernels->name;
          ASSERT_EQ(out[at + out.size() / 2], static_cast<float>(problem.value(other, d))) << kernels->name;
        }
      }
    }
  }
}

bool all_nan(const float* values, int count) {
  return std::all_of(values, values + count, [](float value) { return std::isnan(value); });
}

TEST(Attention, WhatIsNotFiniteIsNoticed) {
  for (const float bad : {kNaN, -kNaN, std::bit_cast<float>(0x7fff0000u), kInfinity, -kInfinity}) {
    for (const int position : {0, 77, 127, 128, 131}) {
      Problem in_query(32, 132, causal(7, 132));
      Problem in_key = in_query, in_value = in_query;
      in_query.query(3)[5] = bad;
      in_key.set_key(position, 5, bad);
      in_value.set_value(position, 5, bad);
      for (const Kernels* kernels : usable_kernels()) {
        const Floats clean = Problem(32, 132, causal(7, 132)).run(*kernels);
        const Floats by_query = in_query.run(*kernels);
        const Floats by_key = in_key.run(*kernels);
        const Floats by_value = in_value.run(*kernels);
        for (int row = 0; row < 7; ++row) {
          const std::ptrdiff_t at = std::ptrdiff_t{32} * row;
          const bool sees = in_key.range(row).last >= position;
          if (row == 3) {
            EXPECT_TRUE(all_nan(&by_query[96], 32)) << kernels->name << " " << bad;
          } else {
            EXPECT_TRUE(same_bits(&by_query[static_cast<std::size_t>(at)], clean.data() + at, 32)) << kernels->name;
          }
          // An infinite key may score -infinity, which is a weight of nothing.
          if (!sees) {
            EXPECT_TRUE(same_bits(by_key.data() + at, clean.data() + at, 32)) << kernels->name;
            EXPECT_TRUE(same_bits(by_value.data() + at, clean.data() + at, 32)) << kernels->name;
            continue;
          }
          if (std::isnan(bad)) {
            EXPECT_TRUE(all_nan(by_key.data() + at, 32)) << kernels->name << " at " << position << ", row " << row;
          }
          EXPECT_FALSE(std::isfinite(by_value[static_cast<std::size_t>(at + 5)]))
              << kernels->name << " at " << position << ", row " << row;
          EXPECT_TRUE(same_bits(by_value.data() + at, clean.data() + at, 5)) << kernels->name;
        }
      }
    }
  }
}

// Tiles of nothing else too, first, last and between: as if the row didn't see those positions.
TEST(Attention, ScoresOfMinusInfinityWeighNothing) {
  for (const int dim : {6, 32, 64}) {
    for (const Range hidden :
         {Range{0, 0}, {0, 99}, {0, 127}, {0, 200}, {0, 298}, {299, 299}, {256, 299}, {120, 299}}) {
      const Range left = hidden.first == 0 ? Range{hidden.last + 1, 299} : Range{0, hidden.first - 1};
      Problem problem(dim, 300, {{0, 299}, left});
      for (int row = 0; row < 2; ++row) {
        for (int d = 0; d < dim; ++d) problem.query(row)[d] = static_cast<float>(d + 1) * 0.1f;
      }
      for (int position = hidden.first; position <= hidden.last; ++position) problem.set_key(position, 1, -kInfinity);
      for (const Kernels* kernels : usable_kernels()) {
        const Floats out = problem.run(*kernels);
        ASSERT_TRUE(same_bits(out.data(), out.data() + dim, dim))
            << kernels->name << ", head_dim " << dim << ", " << hidden.first << " to " << hidden.last;
        ASSERT_TRUE(std::isfinite(out[0])) << kernels->name;
      }
    }
    Problem nothing(dim, 300, {{0, 299}, {3, 9}});
    for (int row = 0; row < 2; ++row) nothing.query(row)[1] = 1.0f;
    for (int position = 0; position < 300; ++position) nothing.set_key(position, 1, -kInfinity);
    for (const Kernels* kernels : usable_kernels()) {
      const Floats out = nothing.run(*kernels);
      EXPECT_TRUE(all_nan(out.data(), 2 * dim)) << kernels->name;
    }
  }
}

TEST(Attention, KeysThatAreAllNaN) {
  for (const int dim : {16, 32}) {
    Problem problem(dim, 300, causal(3, 300));
    for (int position = 0; position < 300; ++position) problem.set_key(position, 0, kNaN);
    for (const Kernels* kernels : usable_kernels()) {
      const Floats out = problem.run(*kernels);
      EXPECT_TRUE(all_nan(out.data(), static_cast<int>(out.size()))) << kernels->name;
    }
  }
}

// What is kept, and that nothing beside it is touched.
TEST(Attention, EverySetKeepsTheSame) {
  std::mt19937 random(8);
  std::normal_distribution<float> normal;
  for (const int dim : {2, 6, 14, 16, 18, 32, 48, 80, 254, 256}) {
    Floats key(static_cast<std::size_t>(dim)), value(key.size());
    for (int position = 0; position < kBlock; ++position) {
      for (std::size_t d = 0; d < key.size(); ++d) {
        key[d] = normal(random) * std::ldexp(1.0f, static_cast<int>(random() % 290) - 160);
        value[d] = normal(random);
      }
      key[random() % key.size()] = std::bit_cast<float>(0x7f800001u);
      value[random() % key.size()] = random() % 2 == 0 ? -kInfinity : kNaN;
      const std::size_t key_elements = kBlock * key.size(), line = 2 * static_cast<std::size_t>(padded_head_dim(dim));
      const std::vector<std::uint16_t> untouched(key_elements + kBlock / 2 * line + 1, 0xabcd);
      const auto keep = [&](const Kernels& kernels) {
        std::vector<std::uint16_t> kept = untouched;
        kernels.keep(key.data(), value.data(), dim, position, kept.data(), kept.data() + key_elements);
        return kept;
      };
      std::vector<std::uint16_t> expected = untouched;
      const auto at = static_cast<std::size_t>(position);
      for (std::size_t d = 0; d < key.size(); ++d) {
        kPortableKernels.round_to_bf16(&key[d], 1, &expected[kBlock * (d / 2 * 2) + 2 * at + d % 2]);
        kPortableKernels.round_to_bf16(&value[d], 1, &expected[key_elements + at / 2 * line + 2 * d + at % 2]);
      }
      for (const Kernels* kernels : usable_kernels()) {
        ASSERT_EQ(keep(*kernels), expected) << kernels->name << ", head_dim " << dim << ", position " << position;
      }
    }
  }
}

}  // namespace
}  // namespace cortex

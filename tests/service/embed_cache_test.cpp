#include "service/embed_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <optional>
#include <set>
#include <thread>
#include <utility>

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr std::size_t kPlenty = std::size_t{1} << 20;

EmbedKey key_of(std::uint8_t number) {
  EmbedKey key;
  key.bytes[0] = number;
  key.bytes[31] = number;
  return key;
}

std::vector<EmbedCache::Text> texts_of(const std::vector<std::uint8_t>& numbers, std::size_t tokens = 1) {
  std::vector<EmbedCache::Text> texts;
  for (const std::uint8_t number : numbers) texts.push_back({key_of(number), tokens});
  return texts;
}

EmbedVector vector_of(std::size_t size, float value = 1.0f) {
  return std::make_shared<const std::vector<float>>(size, value);
}

// What came to one who waits: the text and its vector's first number, or nothing.
struct Heard {
  std::vector<std::pair<std::size_t, std::optional<float>>> all;
  EmbedCache::Arrived arrived() {
    return [this](std::size_t text, const EmbedVector& vector) {
      all.emplace_back(text, vector ? std::optional(vector->at(0)) : std::nullopt);
    };
  }
};

void not_expected(std::size_t text, const EmbedVector&) { ADD_FAILURE() << "text " << text << " came"; }

void put(EmbedCache* cache, std::uint8_t number, const EmbedVector& vector) {
  const auto found = cache->look_up(texts_of({number}), not_expected);
  ASSERT_THAT(found.claimed, SizeIs(1));
  found.claim->give(0, vector);
}

// Without a trace in the order of use: what is not there is claimed and given up.
bool has(EmbedCache* cache, std::uint8_t number) {
  return cache->look_up(texts_of({number}), not_expected).vectors[0] != nullptr;
}

std::size_t bytes_of_one(std::size_t numbers) {
  EmbedCache cache(kPlenty);
  put(&cache, 1, vector_of(numbers));
  return cache.bytes();
}

TEST(EmbedKey, IsAnotherForAnythingThatMatters) {
  EncodeRequest plain;
  plain.model = "ab";
  plain.salt = "c";
  plain.texts = {{1, 2}};
  std::vector<EncodeRequest> all(9, plain);
  all[1].model = "a";
  all[1].salt = "bc";
  all[2].salt = "";
  all[3].texts = {{2, 1}};
  all[4].texts = {{1, 2, 0}};
  all[5].types = {{0, 1}};
  all[6].types = {{1, 0}};
  all[7].scores = {1, 2};
  all[8].texts = {{}};
  all[8].scores = {1, 2};
  std::set<std::array<std::uint8_t, 32>> keys;
  for (const EncodeRequest& request : all) keys.insert(embed_key(request, 0).bytes);
  EXPECT_THAT(keys, SizeIs(all.size()));
}

TEST(EmbedKey, IsTheSameWhateverStandsBesideTheText) {
  EncodeRequest one, other;
  one.id = 1;
  one.texts = {{5, 6}, {7}};
  one.types = {{0, 1}, {0}};
  other.id = 2;
  other.trace = "t";
  other.priority = 3;
  other.texts = {{9}, {5, 6}};
  other.types = {{0}, {0, 1}};
  EXPECT_EQ(embed_key(one, 0), embed_key(other, 1));
}

TEST(EmbedCache, WhatIsGivenIsFoundAsItWas) {
  EmbedCache cache(kPlenty);
  const EmbedVector odd = std::make_shared<const std::vector<float>>(
      std::vector{-0.0f, std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::max()});
  put(&cache, 1, odd);
  EXPECT_EQ(cache.look_up(texts_of({1}), not_expected).vectors[0], odd);
}

TEST(EmbedCache, TheLeastRecentlyUsedMakesRoom) {
  EmbedCache cache(3 * bytes_of_one(16));
  for (const std::uint8_t number : {1, 2, 3}) put(&cache, number, vector_of(16));
  EXPECT_TRUE(has(&cache, 1));
  put(&cache, 4, vector_of(16));
  EXPECT_FALSE(has(&cache, 2));
  for (const std::uint8_t number : {1, 3, 4}) EXPECT_TRUE(has(&cache, number)) << int(number);
}

TEST(EmbedCache, ItsBytesAreThoseOfItsEntriesAndNeverMoreThanItsLimit) {
  EXPECT_EQ(bytes_of_one(200) - bytes_of_one(100), 100 * sizeof(float));
  EXPECT_GT(bytes_of_one(1), sizeof(EmbedKey) * 2 + sizeof(float));
  for (const std::size_t limit : {std::size_t{1}, bytes_of_one(8), 5 * bytes_of_one(8) - 1, std::size_t{10'000}}) {
    EmbedCache cache(limit);
    for (int i = 0; i < 200; ++i) {
      put(&cache, static_cast<std::uint8_t>(i), vector_of(static_cast<std::size_t>(i * 37 % 90 + 1)));
      ASSERT_LE(cache.bytes(), limit) << i;
    }
  }
}

TEST(EmbedCache, WhatIsLargerThanTheWholeIsNotKeptAndDrivesNothingOut) {
  EmbedCache cache(2 * bytes_of_one(16));
  put(&cache, 1, vector_of(16));
  put(&cache, 2, vector_of(10'000));
  EXPECT_TRUE(has(&cache, 1));
  EXPECT_FALSE(has(&cache, 2));
}

TEST(EmbedCache, TheSameGivenTwiceCountsOnce) {
  EmbedCache cache(kPlenty);
  const auto many = cache.look_up(texts_of({1}, EmbedCache::kMostTokensAhead + 1), not_expected);
  const auto few = cache.look_up(texts_of({1}), not_expected);
  few.claim->give(0, vector_of(16));
  many.claim->give(0, vector_of(16));
  EXPECT_EQ(cache.bytes(), bytes_of_one(16));
}

TEST(EmbedCache, WhatAnotherComputesArrives) {
  EmbedCache cache(kPlenty);
  Heard first, second;
  put(&cache, 9, vector_of(4, 9.0f));
  const auto owner = cache.look_up(texts_of({1, 2}), not_expected);
  const auto waiter = cache.look_up(texts_of({9, 2, 3}), first.arrived());
  EXPECT_THAT(owner.claimed, ElementsAre(0, 1));
  EXPECT_THAT(waiter.claimed, ElementsAre(2));
  EXPECT_TRUE(waiter.vectors[0]);
  EXPECT_THAT(cache.look_up(texts_of({2}), second.arrived()).claimed, IsEmpty());
  owner.claim->give(1, vector_of(4, 2.0f));
  EXPECT_THAT(first.all, ElementsAre(std::pair(std::size_t{1}, std::optional(2.0f))));
  EXPECT_THAT(second.all, ElementsAre(std::pair(std::size_t{0}, std::optional(2.0f))));
}

TEST(EmbedCache, WhatIsGivenUpIsSaidAndMayBeClaimedAgain) {
  EmbedCache cache(kPlenty);
  Heard heard;
  auto owner = cache.look_up(texts_of({1, 2}), not_expected);
  cache.look_up(texts_of({2}), heard.arrived());
  owner.claim->give(0, vector_of(4));
  EXPECT_THAT(heard.all, IsEmpty());
  owner.claim.reset();
  EXPECT_THAT(heard.all, ElementsAre(std::pair(std::size_t{0}, std::optional<float>())));
  EXPECT_TRUE(has(&cache, 1));
  EXPECT_THAT(cache.look_up(texts_of({2}), not_expected).claimed, SizeIs(1));
}

TEST(EmbedCache, AVectorThatIsNotFiniteIsForNobodyElse) {
  for (const float broken : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    EmbedCache cache(kPlenty);
    Heard heard;
    auto owner = cache.look_up(texts_of({1}), not_expected);
    cache.look_up(texts_of({1}), heard.arrived());
    owner.claim->give(0, vector_of(4, broken));
    owner.claim.reset();
    EXPECT_THAT(heard.all, ElementsAre(std::pair(std::size_t{0}, std::optional<float>())));
    EXPECT_FALSE(has(&cache, 1));
  }
}

TEST(EmbedCache, AFewTextsDoNotWaitForAMultitude) {
  EmbedCache cache(kPlenty);
  Heard as_large, later;
  auto huge = cache.look_up(texts_of({1, 2}, EmbedCache::kMostTokensAhead), not_expected);
  EXPECT_THAT(cache.look_up(texts_of({1, 2}, EmbedCache::kMostTokensAhead), as_large.arrived()).claimed, IsEmpty());
  const auto small = cache.look_up(texts_of({2}), not_expected);
  EXPECT_THAT(small.claimed, ElementsAre(0));
  // From now on it is the small one's.
  EXPECT_THAT(cache.look_up(texts_of({2}), later.arrived()).claimed, IsEmpty());
  small.claim->give(0, vector_of(4, 2.0f));
  EXPECT_THAT(as_large.all, ElementsAre(std::pair(std::size_t{1}, std::optional(2.0f))));
  EXPECT_THAT(later.all, ElementsAre(std::pair(std::size_t{0}, std::optional(2.0f))));
  // That the huge one gives it up concerns nobody any more.
  huge.claim.reset();
  EXPECT_THAT(as_large.all, SizeIs(2));
  EXPECT_THAT(later.all, SizeIs(1));
}

TEST(EmbedCache, CountsAreByModel) {
  EmbedCache cache(kPlenty);
  cache.count("a", {1, 2});
  cache.count("b", {0, 4});
  cache.count("a", {10, 20});
  const auto counts = cache.counts();
  ASSERT_THAT(counts, SizeIs(2));
  EXPECT_EQ(counts.at("a").hits, 11u);
  EXPECT_EQ(counts.at("a").misses, 22u);
  EXPECT_EQ(counts.at("b").misses, 4u);
}

TEST(EmbedCache, IsOffWithoutBytes) {
  EXPECT_FALSE(EmbedCache(0).on());
  EXPECT_TRUE(EmbedCache(1).on());
}

// Four threads ask for the same few texts; who claims one gives it or gives it up. Every wish ends.
TEST(EmbedCache, EveryoneWhoWaitsHearsOnce) {
  EmbedCache cache(4 * bytes_of_one(4));
  std::atomic<int> waited = 0, heard = 0;
  const auto ask = [&](unsigned seed) {
    for (unsigned i = 0; i < 2000; ++i) {
      const auto number = static_cast<std::uint8_t>((seed + i * 7) % 11);
      auto found = cache.look_up(texts_of({number, static_cast<std::uint8_t>(number + 1)}),
                                 [&](std::size_t, const EmbedVector&) { ++heard; });
      const auto there = std::count_if(found.vectors.begin(), found.vectors.end(), [](const auto& v) { return !!v; });
      waited += static_cast<int>(2 - there) - static_cast<int>(found.claimed.size());
      for (std::size_t k = 0; k < found.claimed.size(); ++k) {
        if ((i + k) % 3 != 0) found.claim->give(k, vector_of(4));
      }
    }
  };
  {
    std::vector<std::jthread> threads;
    for (unsigned seed = 0; seed < 4; ++seed) threads.emplace_back(ask, seed);
  }
  EXPECT_EQ(waited, heard);
  EXPECT_LE(cache.bytes(), 4 * bytes_of_one(4));
}

}  // namespace
}  // namespace cortex

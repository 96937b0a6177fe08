#include "backend/cpu/kv_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "base/error.h"

namespace cortex {
namespace {

TEST(KvPool, PlanesAreDisjoint) {
  KvPool pool(3, 2, 8);
  pool.reserve(4);
  EXPECT_EQ(pool.geometry().block_bytes, 3u * 2 * 2 * 16 * 8 * sizeof(float));
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
  EXPECT_LE(*starts.rbegin() + 16 * 8,
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

#include "engine/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"

namespace cortex {
namespace {

KvGeometry geometry(std::size_t block_bytes) { return {block_bytes, "test", "test"}; }

TEST(MemoryPlan, ByDefaultHoldsEightContextsOfASmallModel) {
  EXPECT_EQ(kv_block_count(geometry(1024), 2048, std::nullopt), 8 * 128);
  EXPECT_EQ(kv_block_count(geometry(1024), 2049, std::nullopt), 8 * 129);
}

TEST(MemoryPlan, ByDefaultTakesNoMoreThanOneGibibyte) {
  EXPECT_EQ(kv_block_count(geometry(std::size_t{2} << 20), 131072, std::nullopt), 512);
}

TEST(MemoryPlan, ABudgetIsTakenWhole) {
  EXPECT_EQ(kv_block_count(geometry(1000), 16, 10999), 10);
  EXPECT_EQ(kv_block_count(geometry(1), 16, std::numeric_limits<std::uint64_t>::max()), 134217727);
}

TEST(MemoryPlan, RefusesABudgetBelowOneBlock) {
  try {
    kv_block_count(geometry(1000), 16, 999);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_option);
    EXPECT_THAT(error.message(), testing::HasSubstr("999"));
    EXPECT_THAT(error.message(), testing::HasSubstr("1000"));
  }
}

}  // namespace
}  // namespace cortex

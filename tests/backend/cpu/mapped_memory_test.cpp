#include "backend/cpu/mapped_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "base/error.h"

namespace cortex {
namespace {

#ifdef __APPLE__
using PageState = char;
#else
using PageState = unsigned char;
#endif

TEST(MappedMemory, IsZeroAtFirstAndMoves) {
  MappedMemory memory(3 * MappedMemory::page_bytes());
  EXPECT_EQ(memory.size_bytes(), 3 * MappedMemory::page_bytes());
  const auto is_zero = [](std::byte byte) { return byte == std::byte{0}; };
  EXPECT_TRUE(std::all_of(memory.data(), memory.data() + memory.size_bytes(), is_zero));
  memory.data()[5] = std::byte{7};
  const MappedMemory moved(std::move(memory));
  EXPECT_EQ(moved.data()[5], std::byte{7});
}

TEST(MappedMemory, ATouchedPageIsThereAndHoldsWhatItHeld) {
  constexpr std::size_t kPages = 7;  // too few for a huge one
  const std::size_t page = MappedMemory::page_bytes();
  MappedMemory memory(kPages * page);
  memory.data()[3 * page] = std::byte{9};
  const auto resident = [&] {
    std::vector<PageState> pages(kPages);
    EXPECT_EQ(mincore(memory.data(), kPages * page, pages.data()), 0);
    return pages;
  };
  EXPECT_THAT(resident(), testing::ElementsAre(0, 0, 0, 1, 0, 0, 0));
  memory.touch(2 * page, 3 * page);
  EXPECT_THAT(resident(), testing::ElementsAre(0, 0, 1, 1, 1, 0, 0));
  EXPECT_EQ(memory.data()[3 * page], std::byte{9});
  EXPECT_EQ(memory.data()[4 * page], std::byte{0});
}

TEST(MappedMemory, NothingTakesNothing) { EXPECT_EQ(MappedMemory(0).data(), nullptr); }

TEST(MappedMemory, WhatTheSystemRefusesIsShortMemory) {
  constexpr std::size_t kTooMuch = std::size_t{1} << 60;
  try {
    MappedMemory memory(kTooMuch);
    FAIL() << "the system gave " << memory.size_bytes();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::memory_pressure);
    EXPECT_NE(error.message().find("refuses 1152921504606846976 bytes"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace cortex

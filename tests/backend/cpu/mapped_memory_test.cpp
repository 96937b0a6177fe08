#include "backend/cpu/mapped_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "base/error.h"

namespace cortex {
namespace {

TEST(MappedMemory, IsZeroAtFirstAndMoves) {
  MappedMemory memory(3 * MappedMemory::page_bytes());
  EXPECT_EQ(memory.size_bytes(), 3 * MappedMemory::page_bytes());
  const auto is_zero = [](std::byte byte) { return byte == std::byte{0}; };
  EXPECT_TRUE(std::all_of(memory.data(), memory.data() + memory.size_bytes(), is_zero));
  memory.data()[5] = std::byte{7};
  const MappedMemory moved(std::move(memory));
  EXPECT_EQ(moved.data()[5], std::byte{7});
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

#include "backend/cpu/weight_arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/resident_memory.h"

namespace cortex {
namespace {

constexpr std::size_t kMegabyte = std::size_t{1} << 20;

bool is_zero(const std::byte* data, std::size_t bytes) {
  return std::all_of(data, data + bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

TEST(WeightArena, HandsOutAlignedZerosThatDoNotOverlap) {
  WeightArena arena;
  std::vector<std::pair<std::byte*, std::size_t>> pieces;
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{64}, std::size_t{65}, std::size_t{100'000},
                                  20 * kMegabyte, 20 * kMegabyte, std::size_t{3}, 50 * kMegabyte, std::size_t{4096}}) {
    std::byte* const piece = arena.allocate(bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(piece) % WeightArena::kAlignBytes, 0u) << bytes;
    EXPECT_TRUE(is_zero(piece, bytes)) << bytes;
    std::memset(piece, static_cast<int>(pieces.size()) + 1, bytes);
    pieces.emplace_back(piece, bytes);
  }
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const auto [piece, bytes] = pieces[i];
    EXPECT_TRUE(std::all_of(piece, piece + bytes, [&](std::byte byte) { return byte == std::byte(i + 1); })) << i;
  }
}

TEST(WeightArena, OneThatMeasuresCountsAsOneThatGives) {
  WeightArena arena, measuring = WeightArena::measuring();
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{64}, std::size_t{100'000}, 50 * kMegabyte}) {
    EXPECT_NE(arena.allocate(bytes), nullptr);
    EXPECT_EQ(measuring.allocate(bytes), nullptr);
    EXPECT_EQ(measuring.bytes_used(), arena.bytes_used());
  }
}

TEST(WeightArena, ARangeComesAndGoesAndStaysWhereItIs) {
  WeightArena range = WeightArena::range_of(200);
  std::byte* const first = range.allocate(100);
  std::byte* const second = range.allocate(64);
  EXPECT_EQ(range.content().data(), first);
  EXPECT_EQ(range.content().size(), 192u);
  std::memset(first, 7, 192);
  range.discard();
  std::memset(first, 9, 192);
  range.rewind();
  EXPECT_EQ(range.content().size(), 0u);
  EXPECT_EQ(range.allocate(100), first);
  EXPECT_EQ(range.allocate(64), second);
  EXPECT_EQ(*second, std::byte{9});
  const WeightArena moved = std::move(range);
  EXPECT_EQ(moved.content().data(), first);
}

TEST(WeightArena, ARangeGivesNoMoreThanItHas) {
  WeightArena range = WeightArena::range_of(MappedMemory::page_bytes());
  range.allocate(MappedMemory::page_bytes());
  EXPECT_THROW(range.allocate(1), CheckFailure);
}

TEST(WeightArena, SmallPiecesAreNotRoundedToPages) {
  WeightArena arena;
  EXPECT_EQ(arena.bytes_used(), 0u);
  const std::byte* const first = arena.allocate(100);
  EXPECT_EQ(arena.allocate(64), first + 128);
  EXPECT_EQ(arena.allocate(1), first + 192);
  EXPECT_EQ(arena.bytes_used(), 256u);
}

TEST(WeightArena, RoomThatALargePieceLeftIsUsed) {
  WeightArena arena;
  const std::byte* const first = arena.allocate(20 * kMegabyte);
  arena.allocate(20 * kMegabyte);
  EXPECT_EQ(arena.allocate(kMegabyte), first + 20 * kMegabyte);
}

TEST(WeightArena, GivesEverythingBack) {
  constexpr std::size_t kBytes = 48 * kMegabyte;
  const std::uint64_t before = resident_bytes();
  {
    WeightArena arena;
    for (int i = 0; i < 3; ++i) std::memset(arena.allocate(kBytes / 3), 1, kBytes / 3);
    const WeightArena moved = std::move(arena);
    EXPECT_EQ(moved.bytes_used(), kBytes);
    EXPECT_GT(resident_bytes(), before + kBytes * 9 / 10);
  }
  EXPECT_LT(resident_bytes(), before + kBytes / 10);
}

TEST(WeightArena, WhatTheSystemRefusesIsShortMemory) {
  WeightArena arena;
  try {
    arena.allocate(std::size_t{1} << 60);
    FAIL() << "the system gave";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::memory_pressure);
  }
  EXPECT_EQ(arena.bytes_used(), 0u);
}

}  // namespace
}  // namespace cortex

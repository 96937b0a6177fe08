// The tile registers of AMX: their shapes and the instructions that the kernels use. Included by amx_*.h, nobody else.
// A tile register is loaded with tileloadd; its shape comes from the configuration that the thread holds meanwhile.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/loops.h"

namespace cortex {
namespace {

constexpr int kTileRows = 16;

// As ldtilecfg reads it.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};

  CORTEX_INLINE void shape(int tile, int tile_rows, int bytes) {
    rows[tile] = static_cast<std::uint8_t>(tile_rows);
    row_bytes[tile] = static_cast<std::uint16_t>(bytes);
  }
};

// Held by a thread while it uses tiles. The registers go back to their initial state, which is quick to save.
class TileScope {
 public:
  CORTEX_INLINE explicit TileScope(const TileConfig& config) { configure(config); }
  CORTEX_INLINE ~TileScope() { asm volatile("tilerelease" ::: "memory"); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;

  CORTEX_INLINE void configure(const TileConfig& config) { asm volatile("ldtilecfg %0" ::"m"(config) : "memory"); }
};

// The compiler's own intrinsics (g++ 12) don't say that they read memory.
#define CORTEX_TILE_LOAD(tile, from, stride) \
  asm volatile("tileloadd (%0,%1,1), %%tmm" #tile ::"r"(from), "r"(static_cast<std::ptrdiff_t>(stride)) : "memory")
#define CORTEX_TILE_STORE(tile, to, stride) \
  asm volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"(to), "r"(static_cast<std::ptrdiff_t>(stride)) : "memory")
#define CORTEX_TILE_ZERO(tile) asm volatile("tilezero %%tmm" #tile ::: "memory")
#define CORTEX_TILE_BF16(to, a, b) asm volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #to ::: "memory")
#define CORTEX_TILE_INT8(to, a, b) asm volatile("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #to ::: "memory")
#define CORTEX_TILE_MIXED(to, a, b) asm volatile("tdpbsud %%tmm" #b ", %%tmm" #a ", %%tmm" #to ::: "memory")

}  // namespace
}  // namespace cortex

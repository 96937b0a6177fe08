// Rows times a packed matrix of bfloat16 with AMX, whose rounding is its own: all rows pass here, however few there
// are. Included by amx.cpp, nobody else.
#pragma once

#include "backend/cpu/amx_tiles.h"
#include "backend/cpu/linear_tiles.h"

namespace cortex {
namespace {

// NOLINTBEGIN(bugprone-implicit-widening-of-multiplication-result): offsets inside a panel or a row are small.

// What bf16_block() works on: up to 32 rows by two panels. Tiles 0 to 3 are sums, 4 and 5 rows, 6 and 7 panels.
struct Bf16Block {
  int rows[2];  // of the upper and the lower tile; the lower may have none
  int panels;   // 1 or 2
};

CORTEX_INLINE TileConfig bf16_config(const int (&rows)[2]) {
  TileConfig config;
  for (int half = 0; half < 2; ++half) {
    const int count = rows[half] > 0 ? rows[half] : 1;
    config.shape(2 * half, count, 64);
    config.shape(2 * half + 1, count, 64);
    config.shape(4 + half, count, 64);
    config.shape(6 + half, kTileRows, 64);
  }
  return config;
}

CORTEX_INLINE void bf16_block(const LinearTask& task, int row, int panel, const Bf16Block& block) {
  const PackedMatrix& matrix = *task.matrix;
  const int blocks = matrix.blocks();
  const std::ptrdiff_t stride = 2 * static_cast<std::ptrdiff_t>(task.in.columns);
  const auto* upper = reinterpret_cast<const std::byte*>(task.in.halves) + row * stride;
  const std::byte* lower = upper + kTileRows * stride;
  const std::byte* first = matrix.panel(panel);
  const std::byte* second = block.panels == 2 ? matrix.panel(panel + 1) : first;
  const bool has_lower = block.rows[1] > 0;
  CORTEX_TILE_ZERO(0);
  CORTEX_TILE_ZERO(1);
  CORTEX_TILE_ZERO(2);
  CORTEX_TILE_ZERO(3);
  for (int index = 0; index < blocks; ++index, upper += 64, lower += 64, first += 1024, second += 1024) {
    CORTEX_TILE_LOAD(6, first, 64);
    CORTEX_TILE_LOAD(4, upper, stride);
    CORTEX_TILE_BF16(0, 4, 6);
    if (block.panels == 2) {
      CORTEX_TILE_LOAD(7, second, 64);
      CORTEX_TILE_BF16(1, 4, 7);
    }
    if (has_lower) {
      CORTEX_TILE_LOAD(5, lower, stride);
      CORTEX_TILE_BF16(2, 5, 6);
      if (block.panels == 2) CORTEX_TILE_BF16(3, 5, 7);
    }
  }
  alignas(64) float sums[2 * kTileRows][2][kPanelRows];
  const std::ptrdiff_t apart = block.panels * kPanelRows * static_cast<std::ptrdiff_t>(sizeof(float));
  float* to = &sums[0][0][0];
  float* to_lower = to + kTileRows * block.panels * kPanelRows;
  CORTEX_TILE_STORE(0, to, apart);
  if (block.panels == 2) CORTEX_TILE_STORE(1, to + kPanelRows, apart);
  if (has_lower) {
    CORTEX_TILE_STORE(2, to_lower, apart);
    if (block.panels == 2) CORTEX_TILE_STORE(3, to_lower + kPanelRows, apart);
  }
  end_tile(task, row, block.rows[0] + block.rows[1], panel, block.panels, to);
}

void linear_bf16_amx(const LinearTask& task) {
  const int whole[2] = {kTileRows, kTileRows};
  const TileConfig whole_config = bf16_config(whole);
  TileScope scope(whole_config);
  const int end = task.first_panel + task.panels;
  int row = task.first_row;
  for (int left = task.rows; left > 0; left -= 2 * kTileRows, row += 2 * kTileRows) {
    Bf16Block block{{left < kTileRows ? left : kTileRows, 0}, 2};
    if (left > kTileRows) block.rows[1] = left - kTileRows < kTileRows ? left - kTileRows : kTileRows;
    if (left < 2 * kTileRows) {
      const TileConfig config = bf16_config(block.rows);
      scope.configure(config);
    }
    for (int panel = task.first_panel; panel < end; panel += 2) {
      block.panels = end - panel < 2 ? 1 : 2;
      bf16_block(task, row, panel, block);
    }
  }
}

// NOLINTEND(bugprone-implicit-widening-of-multiplication-result)

}  // namespace
}  // namespace cortex

#include "backend/cpu/row_parts.h"

#include <gtest/gtest.h>

namespace cortex {
namespace {

TEST(RowParts, AreWholeSixteensThatJoin) {
  for (int threads = 2; threads <= 5; ++threads) {
    for (int rows = 1; rows <= 2100; ++rows) {
      const RowParts parts(rows, threads);
      ASSERT_EQ(parts.count() % threads, 0) << rows;
      ASSERT_EQ(parts.count() > 0, rows >= 128 * threads) << rows;
      if (parts.count() == 0) continue;
      ASSERT_EQ(parts.first(0), 0);
      ASSERT_EQ(parts.first(parts.count()), rows);
      for (int part = 0; part < parts.count(); ++part) {
        ASSERT_EQ(parts.first(part) % 16, 0) << rows << " rows, part " << part;
        ASSERT_GE(parts.first(part + 1) - parts.first(part), 112) << rows << " rows, part " << part;
      }
    }
  }
}

TEST(RowParts, OneThreadHasNone) { EXPECT_EQ(RowParts(4096, 1).count(), 0); }

}  // namespace
}  // namespace cortex

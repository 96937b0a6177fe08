#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"
#include "model/weight.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

using testing::ElementsAre;

Weight weight_of(std::vector<std::int64_t> shape, const std::vector<float>& values, int heads) {
  Weight weight;
  weight.tensor.name = "w";
  weight.tensor.shape = std::move(shape);
  weight.tensor.file = memory_file(packed_floats(values));
  weight.interleaved_heads = heads;
  return weight;
}

TEST(ReadWeight, GivesRowsAsTheyAre) {
  EXPECT_THAT(read_weight(weight_of({2, 2}, {1, 2, 3, 4}, 0)), ElementsAre(1, 2, 3, 4));
}

TEST(ReadWeight, UndoesInterleavingHeadByHead) {
  const Weight weight = weight_of({8, 1}, {0, 1, 2, 3, 10, 11, 12, 13}, 2);
  EXPECT_THAT(read_weight(weight), ElementsAre(0, 2, 1, 3, 10, 12, 11, 13));
}

TEST(ReadWeight, FillsWhatIsGiven) {
  std::vector<float> out(9, -1.0f);
  read_weight(weight_of({8, 1}, {0, 1, 2, 3, 10, 11, 12, 13}, 2), std::span(out).first(8));
  EXPECT_THAT(out, ElementsAre(0, 2, 1, 3, 10, 12, 11, 13, -1));
  EXPECT_THROW(read_weight(weight_of({2, 2}, {1, 2, 3, 4}, 0), out), CheckFailure);
}

TEST(ReadWeight, MovesWholeRows) {
  const Weight weight = weight_of({4, 2}, {0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5}, 1);
  EXPECT_THAT(read_weight(weight), ElementsAre(0, 0.5, 2, 2.5, 1, 1.5, 3, 3.5));
}

TEST(ReadWeight, ABiasIsInterleavedToo) {
  EXPECT_THAT(read_weight(weight_of({6}, {0, 1, 2, 3, 4, 5}, 1)), ElementsAre(0, 2, 4, 1, 3, 5));
}

TEST(ReadWeight, AddsWhatEveryValueLacks) {
  Weight weight = weight_of({3}, {-0.5, 0, 2}, 0);
  weight.plus = 1.0f;
  EXPECT_THAT(read_weight(weight), ElementsAre(0.5, 1, 3));
  EXPECT_EQ(weight.shape(), std::vector<std::int64_t>{3});
  Weight turned = weight_of({4}, {0, 1, 2, 3}, 1);
  turned.plus = 1.0f;
  EXPECT_THAT(read_weight(turned), ElementsAre(1, 3, 2, 4));
}

TEST(RowsOf, IsAWeightOfItsOwn) {
  Weight weight = weight_of({2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8}, 0);
  weight.plus = 0.5f;
  const Weight rows = rows_of(weight, 1, 2);
  EXPECT_EQ(rows.shape(), (std::vector<std::int64_t>{2, 2}));
  EXPECT_EQ(rows.tensor.bytes, 16u);
  EXPECT_EQ(rows.tensor.name, "w");
  EXPECT_THAT(read_weight(rows), ElementsAre(3.5, 4.5, 5.5, 6.5));
  EXPECT_THAT(read_weight(rows_of(rows, 1, 1)), ElementsAre(5.5, 6.5));
  EXPECT_THAT(read_weight(rows_of(weight, 4, 0)), ElementsAre());
}

TEST(RowsOf, OutOfRangeOrInterleavedIsOurBug) {
  const Weight weight = weight_of({4, 1}, {1, 2, 3, 4}, 0);
  EXPECT_THROW(rows_of(weight, -1, 1), CheckFailure);
  EXPECT_THROW(rows_of(weight, 0, -1), CheckFailure);
  EXPECT_THROW(rows_of(weight, 2, 3), CheckFailure);
  EXPECT_THROW(rows_of(weight, 5, 0), CheckFailure);
  EXPECT_THROW(rows_of(weight, std::numeric_limits<std::int64_t>::max(), 1), CheckFailure);
  EXPECT_THROW(rows_of(weight_of({4, 1}, {1, 2, 3, 4}, 1), 0, 2), CheckFailure);
  EXPECT_THROW(rows_of(weight_of({4}, {1, 2, 3, 4}, 0), 0, 1), CheckFailure);
}

TEST(ReadWeight, HeadsThatDoNotDivideAreOurBug) {
  EXPECT_THROW(read_weight(weight_of({6}, {0, 1, 2, 3, 4, 5}, 4)), CheckFailure);
  EXPECT_THROW(read_weight(weight_of({6}, {0, 1, 2, 3, 4, 5}, 2)), CheckFailure);
}

}  // namespace
}  // namespace cortex

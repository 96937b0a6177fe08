#include "base/identifier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace cortex {
namespace {

TEST(Identifier, IsThePrefixAnd24LettersOrDigits) {
  EXPECT_THAT(make_identifier("req_"), testing::MatchesRegex("req_[0-9A-Za-z]{24}"));
}

TEST(Identifier, NeverComesTwice) {
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(seen.insert(make_identifier("")).second);
}

}  // namespace
}  // namespace cortex

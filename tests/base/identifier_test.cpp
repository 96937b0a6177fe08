#include "base/identifier.h"

#include <gtest/gtest.h>

#include <set>

namespace cortex {
namespace {

TEST(Identifier, IsAPrefixAnd24Base62Characters) {
  const std::string identifier = make_identifier("req_");
  EXPECT_EQ(identifier.size(), 28u);
  EXPECT_TRUE(identifier.starts_with("req_"));
  EXPECT_EQ(identifier.find_first_not_of("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", 4),
            std::string::npos);
}

TEST(Identifier, NeverRepeats) {
  std::set<std::string> seen;
  std::set<char> characters;
  for (int i = 0; i < 2000; ++i) {
    const std::string identifier = make_identifier("");
    EXPECT_TRUE(seen.insert(identifier).second);
    characters.insert(identifier.begin(), identifier.end());
  }
  EXPECT_EQ(characters.size(), 62u);
}

}  // namespace
}  // namespace cortex

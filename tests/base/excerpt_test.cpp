#include "base/excerpt.h"

#include <gtest/gtest.h>

namespace cortex {
namespace {

TEST(Excerpt, IsAtMost64BytesOfWholeCharacters) {
  EXPECT_EQ(excerpt("abc"), "\"abc\"");
  EXPECT_EQ(excerpt(std::string(64, 'a')), '"' + std::string(64, 'a') + '"');
  EXPECT_EQ(excerpt(std::string(65, 'a')), '"' + std::string(64, 'a') + "...\"");
  EXPECT_EQ(excerpt(std::string(63, 'a') + "\xc3\xa9"), '"' + std::string(63, 'a') + "...\"");
}

}  // namespace
}  // namespace cortex

#include "cli/spelling.h"

#include <gtest/gtest.h>

namespace cortex {
namespace {

const std::vector<std::string> kKnown = {"serve", "chat", "embed", "rerank", "pull", "completions"};

TEST(EditDistance, CountsEdits) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("abc", ""), 3u);
  EXPECT_EQ(edit_distance("chat", "chat"), 0u);
  EXPECT_EQ(edit_distance("chat", "chta"), 1u);
  EXPECT_EQ(edit_distance("chat", "cat"), 1u);
  EXPECT_EQ(edit_distance("chat", "char"), 1u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
}

TEST(Nearest, FindsWhatWasMeant) {
  EXPECT_EQ(nearest("pul", kKnown), "pull");
  EXPECT_EQ(nearest("serv", kKnown), "serve");
  EXPECT_EQ(nearest("reranc", kKnown), "rerank");
  EXPECT_EQ(nearest("comp", kKnown), "completions");
}

TEST(Nearest, IsSilentWhereNothingIsNear) {
  EXPECT_EQ(nearest("", kKnown), std::nullopt);
  EXPECT_EQ(nearest("frobnicate", kKnown), std::nullopt);
  EXPECT_EQ(nearest(std::string(1000, 'p'), kKnown), std::nullopt);
  EXPECT_EQ(nearest("pull", {}), std::nullopt);
}

TEST(Suggestion, IsPartOfAMessage) {
  EXPECT_EQ(suggestion("embd", kKnown), "; did you mean embed?");
  EXPECT_EQ(suggestion("xyz", kKnown), "");
}

}  // namespace
}  // namespace cortex

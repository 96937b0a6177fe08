#include "kv/block_hash.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

namespace cortex {
namespace {

BlockKey root_of(std::initializer_list<std::string_view> parts) { return root_key(std::vector(parts)); }

TEST(BlockHash, IsASha256OfParentAndTokens) {
  std::vector<TokenId> tokens(16);
  std::iota(tokens.begin(), tokens.end(), 0);
  // sha256 of 32 zero bytes and of the ids 0 to 15, each as 4 bytes, lowest first.
  EXPECT_EQ(to_hex(next_key({}, tokens)), "aa330374288acbdcb5008f2959fd6df7d265c735fbb9b4b4c42ec2036accd6d3");
  // sha256 of the parts' sizes, 8 bytes each, and bytes.
  EXPECT_EQ(to_hex(root_of({"a", "bc"})), "9a8acca1b6c6c0befd3fbc756aed625da998c998f7252e738c4ef061906b9b21");
}

TEST(BlockHash, HexComesBack) {
  const BlockKey key = root_of({"x"});
  EXPECT_EQ(block_key_of_hex(to_hex(key)), key);
  EXPECT_FALSE(block_key_of_hex(to_hex(key).substr(1)));
  EXPECT_FALSE(block_key_of_hex(std::string(64, 'g')));
  EXPECT_FALSE(block_key_of_hex(std::string(64, 'A')));
}

TEST(BlockHash, PartsDoNotRunIntoEachOther) {
  const std::set<BlockKey> roots = {root_of({"ab", "c"}), root_of({"a", "bc"}), root_of({"abc"}), root_of({"abc", ""})};
  EXPECT_EQ(roots.size(), 4u);
}

TEST(BlockHash, ChainHasAKeyForEachFullBlock) {
  std::vector<TokenId> tokens(50);
  std::iota(tokens.begin(), tokens.end(), 7);
  const BlockKey root = root_of({"model"});
  const std::vector<BlockKey> keys = block_keys(root, tokens);
  ASSERT_EQ(keys.size(), 3u);
  EXPECT_EQ(keys[0], next_key(root, std::span(tokens).first(16)));
  EXPECT_EQ(keys[2], next_key(keys[1], std::span(tokens).subspan(32, 16)));
  EXPECT_TRUE(block_keys(root, std::span(tokens).first(15)).empty());
  tokens[3] = 0;  // early: every later key is another
  const std::vector<BlockKey> others = block_keys(root, tokens);
  for (std::size_t i = 0; i < keys.size(); ++i) EXPECT_NE(keys[i], others[i]);
}

}  // namespace
}  // namespace cortex

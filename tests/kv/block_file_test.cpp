#include "kv/block_file.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#include <random>
#include <set>

#include "base/error.h"
#include "kv/stored_runs.h"

namespace cortex {
namespace {

using Header = std::array<std::byte, kBlockFileHeaderBytes>;
using Parsed = std::variant<BlockFileHeader, BlockFileFault>;

template <typename Integer>
void put(Header& header, std::size_t at, Integer value) {
  for (std::size_t i = 0; i < sizeof value; ++i) header[at + i] = static_cast<std::byte>(value >> (8 * i));
}

// As somebody with bad intentions would: the hash is right.
void seal(Header& header) {
  put(header, 16, std::uint64_t{0});
  put(header, 16, static_cast<std::uint64_t>(XXH3_64bits(header.data(), header.size())));
}

class BlockFileTest : public testing::Test {
 protected:
  BlockFileFault fault_of(const Header& header, std::uint64_t file_bytes) const {
    const Parsed parsed = parse_block_file_header(header, file_bytes);
    const auto* fault = std::get_if<BlockFileFault>(&parsed);
    if (!fault) throw std::runtime_error("it was taken for a good one");
    return *fault;
  }
  BlockFileFault fault_of(const Header& header) const { return fault_of(header, bytes_); }
  template <typename Integer>
  BlockFileFault fault_with(std::size_t at, Integer value) const {
    Header header = header_;
    put(header, at, value);
    seal(header);
    return fault_of(header);
  }

  const TestSequence sequence_{21, 1};
  const StoredRun run_ = sequence_.run(16);
  const Header header_ = make_block_file_header(run_);
  const std::uint64_t bytes_ = block_file_bytes(5, kTestBlockBytes);
};

TEST_F(BlockFileTest, ComesBack) {
  for (const int blocks : {1, 2, 15, 16}) {
    for (const int first : {0, 16, 32}) {
      const TestSequence sequence(first + blocks, 1);
      const StoredRun run = sequence.run(first);
      const Parsed parsed =
          parse_block_file_header(make_block_file_header(run), block_file_bytes(run.keys.size(), kTestBlockBytes));
      const BlockFileHeader& header = std::get<BlockFileHeader>(parsed);
      EXPECT_EQ(header.root, run.root);
      EXPECT_EQ(header.parent, run.parent);
      EXPECT_EQ(header.first_block, first);
      EXPECT_EQ(header.block_bytes, kTestBlockBytes);
      EXPECT_EQ(header.keys, run.keys);
      EXPECT_EQ(header.tokens, run.tokens);
      EXPECT_EQ(header.writer, CORTEX_VERSION);
      for (int i = 0; i < blocks; ++i) {
        EXPECT_EQ(header.offset_of(i), 4096u + static_cast<unsigned>(i) * kTestBlockBytes);
        EXPECT_TRUE(is_block_payload(header, i, payload_of(run.keys[static_cast<std::size_t>(i)])));
        EXPECT_FALSE(is_block_payload(header, i, payload_of(run.root)));
      }
    }
  }
}

TEST_F(BlockFileTest, HasTheFieldsWhereTheTableSaysSo) {
  const auto text = [&](std::size_t at, std::size_t bytes) {
    return std::string(reinterpret_cast<const char*>(header_.data()) + at, bytes);
  };
  EXPECT_EQ(text(0, 8), "cortexkv");
  EXPECT_EQ(text(8, 8), std::string("\1\0\0\0\5\0\0\0", 8));
  EXPECT_EQ(text(24, 8), std::string("\x10\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(text(32, 8), std::string("\x60\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(text(112, 5), CORTEX_VERSION);
}

TEST_F(BlockFileTest, NamesAreThoseOfTheLastBlock) {
  const std::string path = block_file_path(run_.root, run_.keys.back()).string();
  const std::string hex = to_hex(run_.keys.back());
  EXPECT_EQ(path, "v1/" + to_hex(run_.root) + "/" + hex.substr(0, 2) + "/" + hex + ".kv");
  EXPECT_EQ(block_file_key(hex + ".kv"), run_.keys.back());
  for (const std::string& name : {hex, hex + ".kv.tmp", ".kv" + hex, std::string(".kv"), std::string()}) {
    EXPECT_FALSE(block_file_key(name)) << name;
  }
}

TEST_F(BlockFileTest, NoBitOfAHeaderMayChange) {
  for (std::size_t bit = 0; bit < 8 * header_.size(); ++bit) {
    Header header = header_;
    header[bit / 8] ^= std::byte{1} << (bit % 8);
    const BlockFileFault fault = fault_of(header);
    EXPECT_TRUE(fault == BlockFileFault::checksum || (bit < 64 && fault == BlockFileFault::magic) ||
                (bit >= 64 && bit < 96 && fault == BlockFileFault::version))
        << bit << " " << name_of(fault);
  }
}

TEST_F(BlockFileTest, AShortHeaderIsNone) {
  for (std::size_t bytes = 0; bytes < header_.size(); bytes += 512) {
    EXPECT_EQ(std::get<BlockFileFault>(parse_block_file_header(std::span(header_).first(bytes), bytes)),
              BlockFileFault::short_header);
  }
  EXPECT_EQ(fault_of(header_, 4095), BlockFileFault::short_header);
}

TEST_F(BlockFileTest, OtherVersionsAreMisses) {
  for (const std::uint32_t version : {kBlockFileVersion - 1, kBlockFileVersion + 1, 0xffffffffu}) {
    EXPECT_EQ(fault_with(8, version), BlockFileFault::version);
  }
}

TEST_F(BlockFileTest, HostileNumbersAreRefused) {
  const std::vector<std::uint64_t> hostile = {0,
                                              17,
                                              ~0ull,
                                              1ull << 31,
                                              1ull << 32,
                                              1ull << 62,
                                              1ull << 63,
                                              ~0ull - 15,
                                              ~0ull / 16,
                                              ~0ull / 5 + 1,
                                              (~0ull - 4096) / 5 + 1};
  for (const std::uint64_t number : hostile) {
    if (number <= 0xffffffff) {
      EXPECT_EQ(fault_with(12, static_cast<std::uint32_t>(number)), BlockFileFault::count) << number;
    }
    EXPECT_EQ(fault_with(32, number), BlockFileFault::layout) << number;    // block bytes
    EXPECT_EQ(fault_with(40, number), BlockFileFault::layout) << number;    // file bytes
    EXPECT_EQ(fault_with(1664, number), BlockFileFault::layout) << number;  // an offset
    EXPECT_EQ(fault_with(1672, number), BlockFileFault::layout) << number;  // a length
    EXPECT_EQ(fault_with(24, number | 1), BlockFileFault::position) << number;
    EXPECT_EQ(fault_with(24, (number | 1ull << 31) & ~15ull), BlockFileFault::position) << number;
  }
  EXPECT_EQ(fault_with(12, std::uint32_t{4}), BlockFileFault::layout);
  EXPECT_EQ(fault_with(12, std::uint32_t{6}), BlockFileFault::layout);
  EXPECT_EQ(fault_with(12, 0xffffffffu), BlockFileFault::count);
  EXPECT_EQ(fault_with(24, std::uint64_t{8}), BlockFileFault::position);
}

TEST_F(BlockFileTest, TheFileIsAsLongAsItsHeaderSays) {
  for (std::uint64_t bytes = 4096; bytes < bytes_; bytes += 32) {
    EXPECT_EQ(fault_of(header_, bytes), BlockFileFault::layout);
  }
  EXPECT_EQ(fault_of(header_, bytes_ + 1), BlockFileFault::layout);
  EXPECT_EQ(fault_of(header_, ~0ull), BlockFileFault::layout);
}

TEST_F(BlockFileTest, KeysFollowFromParentAndTokens) {
  EXPECT_EQ(fault_with(80, std::uint8_t{1}), BlockFileFault::keys);    // parent
  EXPECT_EQ(fault_with(128, std::uint8_t{1}), BlockFileFault::keys);   // a key
  EXPECT_EQ(fault_with(640, std::uint32_t{1}), BlockFileFault::keys);  // a token
  EXPECT_EQ(fault_with(640, std::uint32_t{0x80000000}), BlockFileFault::tokens);
  EXPECT_EQ(fault_with(24, std::uint64_t{0}), BlockFileFault::keys);  // the first block's parent is the root
}

TEST_F(BlockFileTest, WhatIsNotUsedIsZero) {
  for (const std::size_t at : {128 + 5 * 32, 640 + 5 * 64, 1664 + 5 * 32, 2176, 4095, 127}) {
    EXPECT_EQ(fault_with(at, std::uint8_t{1}), BlockFileFault::reserved) << at;
  }
}

TEST_F(BlockFileTest, NoBitOfAPayloadMayChange) {
  const auto header = std::get<BlockFileHeader>(parse_block_file_header(header_, bytes_));
  std::vector<std::byte> bytes = payload_of(run_.keys[2]);
  ASSERT_TRUE(is_block_payload(header, 2, bytes));
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_FALSE(is_block_payload(header, 2, bytes)) << bit;
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
  }
  EXPECT_FALSE(is_block_payload(header, 2, std::span(bytes).first(95)));
  EXPECT_FALSE(is_block_payload(header, 1, bytes));
}

TEST_F(BlockFileTest, RandomHeadersAreRefused) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 2000; ++i) {
    Header header = header_;
    for (std::uint64_t changes = 1 + random() % 8; changes > 0; --changes) {
      header[random() % 2200] = static_cast<std::byte>(random());
    }
    seal(header);
    const Parsed parsed = parse_block_file_header(header, random() % 2 ? bytes_ : random() % 100'000);
    if (const auto* good = std::get_if<BlockFileHeader>(&parsed)) {
      // Nothing binds the root, the payloads' hashes and the writer to the rest.
      EXPECT_EQ(good->keys, run_.keys);
      EXPECT_EQ(good->tokens, run_.tokens);
      EXPECT_EQ(good->block_bytes, kTestBlockBytes);
    }
  }
}

TEST_F(BlockFileTest, FaultsHaveNames) {
  std::set<std::string_view> names;
  for (int i = 0; i < kBlockFileFaults; ++i) names.insert(name_of(static_cast<BlockFileFault>(i)));
  EXPECT_EQ(names.size(), static_cast<std::size_t>(kBlockFileFaults));
}

TEST_F(BlockFileTest, InconsistentRunsAreOurBugs) {
  StoredRun run = run_;
  run.first_block = 5;
  EXPECT_THROW(make_block_file_header(run), CheckFailure);
  run = run_;
  run.tokens.pop_back();
  EXPECT_THROW(make_block_file_header(run), CheckFailure);
  run = run_;
  run.payload.clear();
  EXPECT_THROW(make_block_file_header(run), CheckFailure);
}

}  // namespace
}  // namespace cortex

#include "kv/block_file.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/error.h"

namespace cortex {
namespace {

constexpr std::string_view kMagic = "cortexkv";

// Where the header's fields are.
constexpr std::size_t kVersionAt = 8;
constexpr std::size_t kBlocksAt = 12;
constexpr std::size_t kHeaderHashAt = 16;
constexpr std::size_t kFirstBlockAt = 24;
constexpr std::size_t kBlockBytesAt = 32;
constexpr std::size_t kFileBytesAt = 40;
constexpr std::size_t kRootAt = 48;
constexpr std::size_t kParentAt = 80;
constexpr std::size_t kWriterAt = 112;
constexpr std::size_t kWriterBytes = 16;
constexpr std::size_t kKeysAt = 128;
constexpr std::size_t kKeyBytes = 32;
constexpr std::size_t kTokensAt = kKeysAt + kBlocksPerFile * kKeyBytes;
constexpr std::size_t kTokensBytes = std::size_t{4} * kBlockTokens;  // of a block
constexpr std::size_t kSpansAt = kTokensAt + kBlocksPerFile * kTokensBytes;
constexpr std::size_t kSpanBytes = 32;  // offset 8, length 8, hash 16
constexpr std::size_t kReservedAt = kSpansAt + kBlocksPerFile * kSpanBytes;
static_assert(kReservedAt <= kBlockFileHeaderBytes);

using HeaderBytes = std::array<std::byte, kBlockFileHeaderBytes>;

template <typename Integer>
void put(HeaderBytes& header, std::size_t at, Integer value) {
  for (std::size_t i = 0; i < sizeof value; ++i) header[at + i] = static_cast<std::byte>(value >> (8 * i) & 0xff);
}

void put(HeaderBytes& header, std::size_t at, const BlockKey& key) {
  std::memcpy(header.data() + at, key.bytes.data(), key.bytes.size());
}

template <typename Integer>
Integer get(std::span<const std::byte> header, std::size_t at) {
  Integer value = 0;
  for (std::size_t i = 0; i < sizeof value; ++i) {
    value |= static_cast<Integer>(std::to_integer<Integer>(header[at + i]) << (8 * i));
  }
  return value;
}

BlockKey get_key(std::span<const std::byte> header, std::size_t at) {
  BlockKey key;
  std::memcpy(key.bytes.data(), header.data() + at, key.bytes.size());
  return key;
}

// Of the header, its own place taken as zero.
std::uint64_t hash_of_header(std::span<const std::byte> header) {
  HeaderBytes copy;
  std::copy_n(header.begin(), copy.size(), copy.begin());
  put(copy, kHeaderHashAt, std::uint64_t{0});
  return XXH3_64bits(copy.data(), copy.size());
}

std::array<std::uint8_t, 16> hash_of_payload(std::span<const std::byte> bytes) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
  std::array<std::uint8_t, 16> hash;
  static_assert(sizeof canonical.digest == hash.size());
  std::memcpy(hash.data(), canonical.digest, hash.size());
  return hash;
}

bool is_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte == std::byte{0}; });
}

// What must be zero: the places of the blocks that are not there, and what has no meaning yet.
bool reserved_is_zero(std::span<const std::byte> header, std::size_t blocks) {
  const auto unused = [&](std::size_t at, std::size_t bytes_per_block) {
    return is_zero(header.subspan(at + blocks * bytes_per_block, (kBlocksPerFile - blocks) * bytes_per_block));
  };
  return unused(kKeysAt, kKeyBytes) && unused(kTokensAt, kTokensBytes) && unused(kSpansAt, kSpanBytes) &&
         is_zero(header.subspan(kReservedAt, kBlockFileHeaderBytes - kReservedAt));
}

// Printable ASCII, then zeros.
std::optional<std::string> get_writer(std::span<const std::byte> header) {
  const auto field = header.subspan(kWriterAt, kWriterBytes);
  std::string writer;
  for (const std::byte byte : field) {
    if (byte < std::byte{0x20} || byte > std::byte{0x7e}) break;
    writer += static_cast<char>(byte);
  }
  if (!is_zero(field.subspan(writer.size()))) return std::nullopt;
  return writer;
}

// The offsets and lengths follow from the size of a block, and the size of the file from them: there is one way to lay
// a file out.
bool layout_holds(std::span<const std::byte> header, std::uint64_t blocks, std::uint64_t block_bytes,
                  std::uint64_t file_bytes) {
  static_assert(kMaxBlockBytes <= std::numeric_limits<std::uint64_t>::max() / (std::uint64_t{2} * kBlocksPerFile));
  if (block_bytes == 0 || block_bytes > kMaxBlockBytes) return false;
  if (get<std::uint64_t>(header, kFileBytesAt) != block_file_bytes(blocks, block_bytes)) return false;
  if (file_bytes != block_file_bytes(blocks, block_bytes)) return false;
  for (std::uint64_t i = 0; i < blocks; ++i) {
    const std::size_t at = kSpansAt + i * kSpanBytes;
    if (get<std::uint64_t>(header, at) != block_file_bytes(i, block_bytes)) return false;
    if (get<std::uint64_t>(header, at + 8) != block_bytes) return false;
  }
  return true;
}

}  // namespace

std::string_view name_of(BlockFileFault fault) {
  static constexpr std::array<std::string_view, kBlockFileFaults> kNames = {
      "short_header", "magic",    "version", "checksum", "count",   "position", "layout", "tokens",
      "keys",         "reserved", "name",    "root",     "request", "payload",  "io",     "missing"};
  return kNames.at(static_cast<std::size_t>(fault));
}

std::filesystem::path block_file_path(const BlockKey& root, const BlockKey& last_key) {
  const std::string name = to_hex(last_key);
  return std::filesystem::path("v1") / to_hex(root) / name.substr(0, 2) / (name + ".kv");
}

std::optional<BlockKey> block_file_key(std::string_view name) {
  if (!name.ends_with(".kv")) return std::nullopt;
  return block_key_of_hex(name.substr(0, name.size() - 3));
}

std::array<std::byte, kBlockFileHeaderBytes> make_block_file_header(const StoredRun& run) {
  const std::size_t blocks = run.keys.size();
  CORTEX_CHECK(blocks >= 1 && blocks <= kBlocksPerFile);
  CORTEX_CHECK(run.first_block >= 0 && run.first_block % kBlocksPerFile == 0);
  CORTEX_CHECK(run.tokens.size() == blocks * kBlockTokens);
  const std::uint64_t block_bytes = run.payload.size() / blocks;
  CORTEX_CHECK(block_bytes >= 1 && block_bytes <= kMaxBlockBytes && block_bytes * blocks == run.payload.size());

  HeaderBytes header{};
  std::memcpy(header.data(), kMagic.data(), kMagic.size());
  put(header, kVersionAt, kBlockFileVersion);
  put(header, kBlocksAt, static_cast<std::uint32_t>(blocks));
  put(header, kFirstBlockAt, static_cast<std::uint64_t>(run.first_block));
  put(header, kBlockBytesAt, block_bytes);
  put(header, kFileBytesAt, block_file_bytes(blocks, block_bytes));
  put(header, kRootAt, run.root);
  put(header, kParentAt, run.parent);
  const std::string_view writer = CORTEX_VERSION;
  std::memcpy(header.data() + kWriterAt, writer.data(), std::min(writer.size(), kWriterBytes));
  for (std::size_t i = 0; i < blocks; ++i) {
    put(header, kKeysAt + i * kKeyBytes, run.keys[i]);
    const std::size_t at = kSpansAt + i * kSpanBytes;
    put(header, at, block_file_bytes(i, block_bytes));
    put(header, at + 8, block_bytes);
    const auto hash = hash_of_payload(std::span(run.payload).subspan(i * block_bytes, block_bytes));
    std::memcpy(header.data() + at + 16, hash.data(), hash.size());
  }
  for (std::size_t i = 0; i < run.tokens.size(); ++i) {
    put(header, kTokensAt + i * sizeof(TokenId), static_cast<std::uint32_t>(run.tokens[i]));
  }
  put(header, kHeaderHashAt, hash_of_header(header));
  return header;
}

std::variant<BlockFileHeader, BlockFileFault> parse_block_file_header(std::span<const std::byte> bytes,
                                                                      std::uint64_t file_bytes) {
  if (bytes.size() < kBlockFileHeaderBytes || file_bytes < kBlockFileHeaderBytes) return BlockFileFault::short_header;
  bytes = bytes.first(kBlockFileHeaderBytes);
  if (std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) return BlockFileFault::magic;
  // Before the hash, whose place is another version's own affair.
  if (get<std::uint32_t>(bytes, kVersionAt) != kBlockFileVersion) return BlockFileFault::version;
  if (get<std::uint64_t>(bytes, kHeaderHashAt) != hash_of_header(bytes)) return BlockFileFault::checksum;

  const std::size_t blocks = get<std::uint32_t>(bytes, kBlocksAt);
  if (blocks < 1 || blocks > kBlocksPerFile) return BlockFileFault::count;
  const std::uint64_t first_block = get<std::uint64_t>(bytes, kFirstBlockAt);
  if (first_block > std::numeric_limits<int>::max() - kBlocksPerFile || first_block % kBlocksPerFile != 0) {
    return BlockFileFault::position;
  }
  BlockFileHeader header;
  header.block_bytes = get<std::uint64_t>(bytes, kBlockBytesAt);
  if (!layout_holds(bytes, blocks, header.block_bytes, file_bytes)) return BlockFileFault::layout;
  const auto writer = get_writer(bytes);
  if (!writer || !reserved_is_zero(bytes, blocks)) return BlockFileFault::reserved;

  header.writer = *writer;
  header.first_block = static_cast<int>(first_block);
  header.root = get_key(bytes, kRootAt);
  header.parent = get_key(bytes, kParentAt);
  for (std::size_t i = 0; i < blocks * kBlockTokens; ++i) {
    header.tokens.push_back(static_cast<TokenId>(get<std::uint32_t>(bytes, kTokensAt + i * sizeof(TokenId))));
    if (header.tokens.back() < 0) return BlockFileFault::tokens;
  }
  if (first_block == 0 && header.parent != header.root) return BlockFileFault::keys;
  header.keys = block_keys(header.parent, header.tokens);
  for (std::size_t i = 0; i < blocks; ++i) {
    if (get_key(bytes, kKeysAt + i * kKeyBytes) != header.keys[i]) return BlockFileFault::keys;
    std::memcpy(header.hashes.emplace_back().data(), bytes.data() + kSpansAt + i * kSpanBytes + 16, 16);
  }
  return header;
}

bool is_block_payload(const BlockFileHeader& header, int block, std::span<const std::byte> bytes) {
  CORTEX_CHECK(block >= 0 && block < header.blocks());
  return bytes.size() == header.block_bytes && hash_of_payload(bytes) == header.hashes[static_cast<std::size_t>(block)];
}

}  // namespace cortex

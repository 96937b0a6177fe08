// The form of a file of KV blocks: a header of 4 KiB, then the blocks' bytes, one after another. docs/kv-cache.md has
// the table. Pure functions over bytes; any thread. Files are foreign: nothing in a header is believed before it is
// checked against the size of the file and against itself, and nothing here throws.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "backend/step_plan.h"
#include "kv/block_hash.h"

namespace cortex {

inline constexpr int kBlocksPerFile = 16;  // at most; a file's first block is a multiple of them
inline constexpr std::size_t kBlockFileHeaderBytes = 4096;
inline constexpr std::uint32_t kBlockFileVersion = 1;
inline constexpr std::uint64_t kMaxBlockBytes = std::uint64_t{1} << 30;

// Neighbouring blocks of one sequence and their bytes: what a file holds.
struct StoredRun {
  BlockKey root, parent;           // parent: the key of the block before the first, of the very first the root
  int first_block = 0;             // of the sequence; a multiple of kBlocksPerFile
  std::vector<BlockKey> keys;      // [1..kBlocksPerFile]
  std::vector<TokenId> tokens;     // [kBlockTokens * keys]
  std::vector<std::byte> payload;  // [block_bytes * keys], block after block
};

// What can be wrong with a file. The names are labels of a metric.
enum class BlockFileFault {
  short_header,  // the file ends within it
  magic,
  version,
  checksum,  // of the header
  count,     // of blocks
  position,  // of the first block
  layout,    // block bytes, offsets and lengths against one another and the size of the file
  tokens,
  keys,      // not those of parent and tokens
  reserved,  // bytes that must be zero
  name,      // the file's name is another block's
  root,      // the blocks are another model's or tenant's
  request,   // the tokens, the place or the size of a block are not those that were asked for
  payload,   // its hash
  io,
  missing,
};
inline constexpr int kBlockFileFaults = 16;

std::string_view name_of(BlockFileFault fault);

struct BlockFileHeader {
  BlockKey root, parent;
  int first_block = 0;
  std::uint64_t block_bytes = 0;
  std::vector<BlockKey> keys;                        // [blocks]
  std::vector<TokenId> tokens;                       // [kBlockTokens * blocks]
  std::vector<std::array<std::uint8_t, 16>> hashes;  // [blocks], of the payloads
  std::string writer;                                // the version that wrote it

  int blocks() const { return static_cast<int>(keys.size()); }
  std::uint64_t offset_of(int block) const {
    return kBlockFileHeaderBytes + static_cast<std::uint64_t>(block) * block_bytes;
  }
};

// Of a file with so many blocks, header and all.
constexpr std::uint64_t block_file_bytes(std::uint64_t blocks, std::uint64_t block_bytes) {
  return kBlockFileHeaderBytes + blocks * block_bytes;
}

// Where the file whose last block has this key is, from the store's folder on: v1/<root>/<aa>/<key>.kv
std::filesystem::path block_file_path(const BlockKey& root, const BlockKey& last_key);
// The key in a file's name, such as "<64 hexadecimal digits>.kv".
std::optional<BlockKey> block_file_key(std::string_view name);

// `run` is consistent: CORTEX_CHECK.
std::array<std::byte, kBlockFileHeaderBytes> make_block_file_header(const StoredRun& run);

// `bytes`: the beginning of a file of `file_bytes`, kBlockFileHeaderBytes of it where there are so many.
std::variant<BlockFileHeader, BlockFileFault> parse_block_file_header(std::span<const std::byte> bytes,
                                                                      std::uint64_t file_bytes);

// Whether these are the bytes that were written for the file's block.
bool is_block_payload(const BlockFileHeader& header, int block, std::span<const std::byte> bytes);

}  // namespace cortex

// Reads files of blocks and hands out only what is what was written for a key: the store, its scan and `cortex cache`
// read through here. Stateless; any thread. Faults are results; nothing here throws but for want of memory.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "base/file_system.h"
#include "kv/block_file.h"
#include "kv/block_hash.h"

namespace cortex {

class BlockReader {
 public:
  // Opens the file, checks its header, and that it is the one to be expected at that place.
  static std::variant<BlockReader, BlockFileFault> open(const FileSystem& files, const std::filesystem::path& path,
                                                        const BlockKey& root, const BlockKey& last_key);

  const BlockFileHeader& header() const { return header_; }
  // Whether its first blocks are these, at that place of the sequence: `tokens` [kBlockTokens * keys].
  bool matches(int first_block, std::span<const BlockKey> keys, std::span<const TokenId> tokens,
               std::size_t block_bytes) const;
  // Fills `out` [block_bytes] with the file's block.
  std::optional<BlockFileFault> read(int block, std::span<std::byte> out) const;

 private:
  BlockReader(std::shared_ptr<const RandomAccessFile> file, BlockFileHeader header)
      : file_(std::move(file)), header_(std::move(header)) {}

  std::shared_ptr<const RandomAccessFile> file_;
  BlockFileHeader header_;
};

}  // namespace cortex

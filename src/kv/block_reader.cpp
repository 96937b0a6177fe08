#include "kv/block_reader.h"

#include <algorithm>
#include <array>
#include <system_error>
#include <utility>

namespace cortex {

std::variant<BlockReader, BlockFileFault> BlockReader::open(const FileSystem& files, const std::filesystem::path& path,
                                                            const BlockKey& root, const BlockKey& last_key) {
  std::shared_ptr<const RandomAccessFile> file;
  std::array<std::byte, kBlockFileHeaderBytes> bytes;
  try {
    file = files.open(path);
    if (file->size_bytes() < bytes.size()) return BlockFileFault::short_header;
    file->read(0, bytes);
  } catch (const std::system_error& error) {
    return error.code() == std::errc::no_such_file_or_directory ? BlockFileFault::missing : BlockFileFault::io;
  }
  auto parsed = parse_block_file_header(bytes, file->size_bytes());
  if (const auto* fault = std::get_if<BlockFileFault>(&parsed)) return *fault;
  BlockFileHeader& header = std::get<BlockFileHeader>(parsed);
  if (header.root != root) return BlockFileFault::root;
  if (header.keys.back() != last_key) return BlockFileFault::name;
  return BlockReader(std::move(file), std::move(header));
}

bool BlockReader::matches(int first_block, std::span<const BlockKey> keys, std::span<const TokenId> tokens,
                          std::size_t block_bytes) const {
  return header_.first_block == first_block && header_.block_bytes == block_bytes &&
         keys.size() <= header_.keys.size() && tokens.size() == keys.size() * kBlockTokens &&
         std::equal(keys.begin(), keys.end(), header_.keys.begin()) &&
         std::equal(tokens.begin(), tokens.end(), header_.tokens.begin());
}

std::optional<BlockFileFault> BlockReader::read(int block, std::span<std::byte> out) const {
  try {
    file_->read(header_.offset_of(block), out);
  } catch (const std::system_error&) {
    return BlockFileFault::io;
  }
  if (!is_block_payload(header_, block, out)) return BlockFileFault::payload;
  return std::nullopt;
}

}  // namespace cortex

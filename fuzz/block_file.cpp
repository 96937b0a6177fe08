// The input is a file of KV blocks. Its header's hash is put right first: else nothing would come past it.
#include "kv/block_file.h"

#include <xxhash.h>

#include <algorithm>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "input.h"
#include "kv/block_reader.h"
#include "memory_files.h"

namespace cortex {
namespace {

constexpr std::size_t kHashAt = 16;

void seal(std::string& file) {
  if (file.size() < kBlockFileHeaderBytes) return;
  std::fill_n(file.begin() + kHashAt, 8, '\0');
  const std::uint64_t hash = XXH3_64bits(file.data(), kBlockFileHeaderBytes);
  for (std::size_t i = 0; i < 8; ++i) file[kHashAt + i] = static_cast<char>(hash >> (8 * i));
}

void check(const std::string& file) {
  const auto bytes = std::as_bytes(std::span(file));
  const auto parsed = parse_block_file_header(bytes, bytes.size());
  if (const auto* fault = std::get_if<BlockFileFault>(&parsed)) {
    CORTEX_CHECK(!name_of(*fault).empty());
    return;
  }
  const BlockFileHeader& header = std::get<BlockFileHeader>(parsed);
  const auto blocks = static_cast<std::uint64_t>(header.blocks());
  CORTEX_CHECK(blocks >= 1 && blocks <= kBlocksPerFile && header.first_block % kBlocksPerFile == 0);
  CORTEX_CHECK(file.size() == block_file_bytes(blocks, header.block_bytes));
  CORTEX_CHECK(header.keys == block_keys(header.parent, header.tokens));

  MemoryFiles files;
  files.add("a.kv", file);
  const auto opened = BlockReader::open(files, "a.kv", header.root, header.keys.back());
  const BlockReader& reader = std::get<BlockReader>(opened);
  std::vector<std::byte> block(header.block_bytes);
  for (int i = 0; i < header.blocks(); ++i) {
    const auto fault = reader.read(i, block);
    CORTEX_CHECK(!fault || *fault == BlockFileFault::payload);
  }
}

}  // namespace
}  // namespace cortex

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string file(cortex::text_of(data, size));
  cortex::check(file);
  cortex::seal(file);
  cortex::check(file);
  return 0;
}

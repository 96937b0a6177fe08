// Sequences whose blocks have bytes that follow from their keys, so that any block that comes back from a disk can be
// checked, and what tests of the disk store share: waiting, reading, counting what is in a folder.
#pragma once

#include <chrono>
#include <cstring>
#include <filesystem>
#include <future>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "kv/block_file.h"
#include "kv/disk_store.h"

namespace cortex {

inline constexpr std::size_t kTestBlockBytes = 96;

// What the block with this key holds; nothing else may ever be read for it.
inline std::vector<std::byte> payload_of(const BlockKey& key, std::size_t block_bytes = kTestBlockBytes) {
  std::uint64_t seed = 0;
  std::memcpy(&seed, key.bytes.data(), sizeof seed);
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(block_bytes);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

inline BlockKey test_root(std::string_view name = "model") {
  const std::vector<std::string_view> parts = {name};
  return root_key(parts);
}

struct TestSequence {
  BlockKey root;
  std::vector<TokenId> tokens;
  std::vector<BlockKey> chain;
  std::size_t block_bytes = kTestBlockBytes;

  // Its first `shared` blocks are those of every other sequence of the same root.
  TestSequence(int blocks, int number, int shared = 0, const BlockKey& its_root = test_root(),
               std::size_t bytes = kTestBlockBytes)
      : root(its_root), tokens(static_cast<std::size_t>(blocks) * kBlockTokens), block_bytes(bytes) {
    std::iota(tokens.begin(), tokens.end(), 1);
    for (std::size_t i = static_cast<std::size_t>(shared) * kBlockTokens; i < tokens.size(); ++i) {
      tokens[i] += 1000 * (number + 1);
    }
    chain = block_keys(root, tokens);
  }

  int blocks() const { return static_cast<int>(chain.size()); }
  // The run that begins with `first`, of as many blocks as it may have but no more than `most`.
  StoredRun run(int first, int most = kBlocksPerFile) const {
    const int count = std::min({kBlocksPerFile, most, blocks() - first});
    StoredRun run;
    run.root = root;
    run.parent = first == 0 ? root : chain[static_cast<std::size_t>(first - 1)];
    run.first_block = first;
    run.keys.assign(chain.begin() + first, chain.begin() + first + count);
    const auto first_token = tokens.begin() + std::ptrdiff_t{first} * kBlockTokens;
    run.tokens.assign(first_token, first_token + std::ptrdiff_t{count} * kBlockTokens);
    for (const BlockKey& key : run.keys) {
      const auto bytes = payload_of(key, block_bytes);
      run.payload.insert(run.payload.end(), bytes.begin(), bytes.end());
    }
    return run;
  }
  std::vector<StoredRun> runs() const {
    std::vector<StoredRun> runs;
    for (int first = 0; first < blocks(); first += kBlocksPerFile) runs.push_back(run(first));
    return runs;
  }
  BlockRead request(int first, int count) const { return {root, chain, tokens, first, count, block_bytes}; }
  std::filesystem::path path(int first = 0) const { return block_file_path(root, run(first).keys.back()); }
};

inline void store_all(DiskStore& store, const TestSequence& sequence) {
  for (StoredRun& run : sequence.runs()) store.write(std::move(run));
}

inline BlockReadResult read_now(DiskStore& store, const TestSequence& sequence, int first, int count) {
  std::promise<BlockReadResult> answer;
  store.read(sequence.request(first, count), [&](BlockReadResult result) { answer.set_value(std::move(result)); });
  return answer.get_future().get();
}

// How many blocks came back; throws where one has other bytes than were written for its key.
inline int good_blocks(const TestSequence& sequence, int first, const BlockReadResult& result) {
  if (result.bytes.size() != static_cast<std::size_t>(result.blocks) * sequence.block_bytes) {
    throw std::runtime_error("bytes and blocks do not agree");
  }
  for (int i = 0; i < result.blocks; ++i) {
    const auto bytes =
        std::span(result.bytes).subspan(static_cast<std::size_t>(i) * sequence.block_bytes, sequence.block_bytes);
    const auto expected =
        payload_of(sequence.chain[static_cast<std::size_t>(first) + static_cast<std::size_t>(i)], sequence.block_bytes);
    if (!std::equal(bytes.begin(), bytes.end(), expected.begin())) throw std::runtime_error("WRONG BYTES for a key");
  }
  return result.blocks;
}

inline int read_back(DiskStore& store, const TestSequence& sequence, int first = 0, int count = -1) {
  if (count < 0) count = sequence.blocks() - first;
  return good_blocks(sequence, first, read_now(store, sequence, first, count));
}

template <typename Condition>
bool comes_true(Condition condition, std::chrono::milliseconds within = std::chrono::seconds(20)) {
  const auto end = std::chrono::steady_clock::now() + within;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return true;
}

inline bool scanned(const DiskStore& store) {
  return comes_true([&] { return store.status().state != "off" && !store.status().scanning; });
}

// Of all files in the folder, whatever they are.
inline std::uint64_t bytes_in(const std::filesystem::path& folder) {
  std::uint64_t bytes = 0;
  std::error_code ignored;
  for (auto entry = std::filesystem::recursive_directory_iterator(folder, ignored);
       entry != std::filesystem::recursive_directory_iterator(); entry.increment(ignored)) {
    const std::uint64_t size = entry->is_regular_file(ignored) ? entry->file_size(ignored) : 0;
    if (!ignored) bytes += size;
  }
  return bytes;
}

}  // namespace cortex

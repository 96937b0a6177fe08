// The runs of blocks in a store's folder: the files and the index of them, kept in step. Owned by the store. Its thread
// does all that touches the disk; looking runs up is any thread's, and waits for nobody's I/O.
//
// What touches the disk throws std::system_error. Where the folder may then hold what is not counted it is closed, and
// to be opened and scanned again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_system.h"
#include "kv/block_file.h"
#include "kv/disk_index.h"
#include "kv/store_folder.h"
#include "kv/store_scan.h"

namespace cortex {

// Neighbouring blocks of a file, from the file's first on: what a reader expects to find.
struct ExpectedRun {
  int first_block = 0;              // of the sequence
  std::span<const BlockKey> keys;   // [1..kBlocksPerFile]
  std::span<const TokenId> tokens;  // [kBlockTokens * keys]
  std::size_t block_bytes = 0;
};

class RunFiles {
 public:
  RunFiles(FileSystem& files, std::filesystem::path directory, std::uint64_t limit_bytes, std::uint64_t free_bytes,
           StoreFolder::Failpoint failpoint);

  // Any thread.
  std::optional<DiskIndex::Match> find(std::span<const BlockKey> keys) const;
  bool has(const BlockKey& last_key) const;
  bool has_all(std::span<const BlockKey> keys) const;
  bool is_scanning() const;  // open, and not everything has been found yet
  std::uint64_t count() const;
  std::uint64_t bytes() const;                                   // in the folder, whatever they are
  std::array<std::uint64_t, kBlockFileFaults> rejected() const;  // files, by fault
  std::filesystem::path path_of(const DiskIndex::Name& name) const;

  // The store's thread only, from here on. As StoreFolder's; what is there is found by scan().
  std::optional<std::string> open();
  bool is_open() const { return folder_.is_open(); }
  void close();
  // Goes on with the scan; false when it is over and the folder is within its quota.
  bool scan();

  // Fills `out` with the file's blocks from `begin` on, the last of `run`; how many were good.
  int read(const DiskIndex::Name& name, const ExpectedRun& run, int begin, std::span<std::byte> out);

  // Evicts what has to go for a file of so many bytes; why there is no room, if there is none.
  std::optional<std::string> make_room(std::uint64_t file_bytes);
  // Not before there is room. What the run makes superfluous is removed.
  void add(const StoredRun& run);
  std::size_t unsynced_directories() const { return folder_.unsynced_directories(); }
  void sync() { folder_.sync(); }

 private:
  class Census;

  void check_folder();
  void reject(const std::filesystem::path& path, BlockFileFault fault);
  void write(const StoredRun& run);
  void remove_shorter(std::span<const BlockKey> keys);
  void evict(std::uint64_t bytes);
  std::uint64_t missing_on_disk(std::uint64_t file_bytes) const;
  void at(std::string_view failpoint) const;

  FileSystem& files_;
  const std::filesystem::path directory_;
  const std::uint64_t limit_bytes_, free_bytes_;
  const StoreFolder::Failpoint failpoint_;
  StoreFolder folder_;
  std::optional<StoreScan> scan_;

  mutable std::mutex mutex_;  // guards what follows
  DiskIndex index_;
  bool scanning_ = false;
  std::array<std::uint64_t, kBlockFileFaults> rejected_{};
};

}  // namespace cortex

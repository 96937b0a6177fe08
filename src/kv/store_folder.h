// The folder of a disk store, and how files come into it and leave it. Owned by the store and used by its thread;
// another store's folder is told by its lock. Does no accounting of runs, only of what lies around them.
//
//   LOCK                             held by the store that owns the folder
//   tmp/                             files that are being written; whatever is there at the start is removed
//   quarantine/                      files that something was wrong with, the last few
//   v1/<root>/<aa>/<last key>.kv     runs of blocks
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>

#include "base/file_system.h"
#include "kv/block_file.h"

namespace cortex {

// What a file takes of the quota: whole pages.
constexpr std::uint64_t stored_bytes(std::uint64_t file_bytes) { return (file_bytes + 4095) / 4096 * 4096; }

// Whether it is room that a disk is short of.
bool is_no_space(const std::system_error& error);

class StoreFolder {
 public:
  using Failpoint = std::function<void(std::string_view)>;

  // Up to so many bytes of the quota may lie in quarantine.
  StoreFolder(FileSystem& files, std::filesystem::path directory, std::uint64_t quarantine_bytes, Failpoint failpoint);

  const std::filesystem::path& directory() const { return directory_; }

  // Makes the folder where there is none, and locks it. Why it can't be used, if it can't; std::system_error where the
  // disk does not say.
  std::optional<std::string> open();
  bool is_open() const { return lock_ != nullptr; }
  // Whether the name still is the folder that was opened.
  bool is_there() const;
  void close();

  // All that follows throws std::system_error.

  // Afterwards the run is there or it is not.
  void write(const StoredRun& run);
  std::size_t unsynced_directories() const { return unsynced_.size(); }
  // Makes what was written last, whatever happens to the machine.
  void sync();
  // A file that is not there is removed.
  void remove(const std::filesystem::path& path);
  // Moves a file out of the way, or removes it where there is no room for it.
  void quarantine(const std::filesystem::path& path, std::uint64_t file_bytes, std::string_view reason);

  // What the scan finds besides runs.
  void found_in_quarantine(std::string name, std::uint64_t file_bytes);
  void found_other(std::uint64_t file_bytes) { other_bytes_ += stored_bytes(file_bytes); }
  // Everything in the folder but runs. Any thread.
  std::uint64_t bytes_beside_runs() const { return quarantined_bytes_ + other_bytes_; }

 private:
  std::filesystem::path path(std::string_view name) const { return directory_ / name; }
  void ensure_directory(const std::filesystem::path& path);
  void discard(const std::filesystem::path& temporary, std::uint64_t file_bytes);
  void fill(WritableFile& file, const StoredRun& run);
  void trim_quarantine(std::uint64_t room_bytes);
  void at(std::string_view failpoint) const {
    if (failpoint_) failpoint_(failpoint);
  }

  FileSystem& files_;
  const std::filesystem::path directory_;
  const std::uint64_t quarantine_limit_bytes_;
  const Failpoint failpoint_;
  std::unique_ptr<FileLock> lock_;
  FileStatus identity_;
  std::set<std::filesystem::path> unsynced_;          // directories with new names in them
  std::map<std::string, std::uint64_t> quarantined_;  // what names take, the oldest first
  std::atomic<std::uint64_t> quarantined_bytes_ = 0, other_bytes_ = 0;
  std::uint64_t next_quarantined_ = 0;
};

}  // namespace cortex

// What lies in the folder of a disk store, for those who look at it from outside: `cortex cache`. Reading takes no lock
// and changes nothing, whether a server has the folder or not; what goes away meanwhile is not there. Any thread. What
// the disk does not tell is std::system_error.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "base/file_system.h"
#include "base/function_ref.h"
#include "kv/block_file.h"
#include "kv/block_hash.h"

namespace cortex {

// A file that is named as a run, and what its header says if that is in order.
struct RunFile {
  std::filesystem::path path;
  BlockKey root, last_key;  // by its folder and its name
  std::uint64_t bytes = 0;
  std::chrono::system_clock::time_point used;  // the last time
  std::optional<BlockFileFault> fault;         // of its header
  int first_block = 0, blocks = 0;             // 0 where there is a fault
};

struct StoreContents {
  struct File {
    std::filesystem::path path;
    std::uint64_t bytes = 0;
  };

  std::vector<RunFile> runs;                  // what was used last comes first
  std::vector<File> quarantined, unfinished;  // named as the store names them
  std::vector<File> others;                   // what no store has put there
};

// Whether the folder has been a store's.
bool is_store(const FileSystem& files, const std::filesystem::path& directory);

// Reads names and headers.
StoreContents read_store_contents(const FileSystem& files, const std::filesystem::path& directory);

// Reads all of the file and checks all that can be checked; what is wrong with it, if something is. `read` hears how
// many bytes have been read, now and then.
std::optional<BlockFileFault> verify_run(const FileSystem& files, const std::filesystem::path& directory,
                                         const RunFile& run, FunctionRef<std::uint64_t> read);

// The folder's lock, which keeps servers away from it; null while one has it.
std::unique_ptr<FileLock> lock_store(FileSystem& files, const std::filesystem::path& directory);

// With the lock only. Removes a file of the store's and the folders in `directory` that are empty without it.
void remove_from_store(FileSystem& files, const std::filesystem::path& directory, const std::filesystem::path& path);

}  // namespace cortex

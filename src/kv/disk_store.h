// KV blocks on disk, content-addressed, so that a restart costs nothing: docs/kv-cache.md says what is in its folder.
// One store a folder, owned by the engine and called by the engine thread; the store's own thread does all reading and
// writing, and what is asked of the store never waits for it.
//
// Whatever is wrong with a disk or a file is a miss, counted and told by status(), never an exception and never other
// bytes than were written for a key. The folder, everything in it counted, stays within limit_bytes at any moment.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "backend/step_plan.h"
#include "base/clock.h"
#include "base/file_system.h"
#include "kv/block_file.h"
#include "kv/block_hash.h"
#include "kv/run_files.h"
#include "kv/write_budget.h"

namespace cortex {

struct DiskStoreOptions {
  std::filesystem::path directory;        // made if it is not there, readable by its owner only
  std::uint64_t limit_bytes = 0;          // for all that is in the directory
  std::uint64_t write_bytes_per_day = 0;  // within any 24 hours of one process; 0: as many as there are
  std::uint64_t free_bytes = 0;           // that the file system must have left after a write
  std::size_t pending_bytes = 64 << 20;   // payloads that wait to be written; past it the oldest are dropped
  std::chrono::milliseconds flush_deadline{2000};
  // Called where a crash would matter most, by the names that docs/kv-cache.md lists: for tests.
  std::function<void(std::string_view)> failpoint;
};

struct BlockRead {
  BlockKey root;
  std::vector<BlockKey> chain;  // the sequence's keys from its first block on; [>= first + count]
  std::vector<TokenId> tokens;  // [kBlockTokens * chain]
  int first = 0, count = 0;     // the wanted blocks
  std::size_t block_bytes = 0;
};

struct BlockReadResult {
  std::vector<std::byte> bytes;  // [block_bytes * blocks]
  int blocks = 0;                // as many of the wanted ones, from the first on, as were good
  double seconds = 0;            // of reading and checking, without the wait before it
};

struct DiskStoreStatus {
  std::string state;    // off (the folder can't be used), ok, full, error (writes rest, reads go on)
  std::string message;  // why, if not ok; fit for anybody: it does not say where the folder is
  bool scanning = false;
  std::uint64_t bytes = 0, limit_bytes = 0, files = 0;
  std::uint64_t written_bytes = 0, read_bytes = 0, dropped_bytes = 0;  // since the start
  std::vector<std::pair<std::string, std::uint64_t>> rejected;         // files by what was wrong with them
};

class DiskStore {
 public:
  // Never throws for what is wrong with the disk. Both must outlive the store.
  DiskStore(FileSystem& files, const Clock& clock, DiskStoreOptions options);
  DiskStore(const DiskStore&) = delete;
  DiskStore& operator=(const DiskStore&) = delete;
  // Writes what is pending until flush_deadline, drops the rest, and answers reads that wait with no block.
  ~DiskStore();

  // How many blocks of the chain can be read from `first` on, one after another. `chain`: as BlockRead's.
  int available(const BlockKey& root, std::span<const BlockKey> chain, int first) const;
  // Whether the run that ends with this key is on disk or will be: it need not be read out of the device again.
  bool has_run(const BlockKey& last_key) const;
  // In the background. A run that extends another takes its place; what is there already is not written again.
  void write(StoredRun run);
  // In the background, before all that waits to be written. `done` is called once, on the store's thread (without
  // locks), at the latest by the destructor.
  void read(BlockRead request, std::function<void(BlockReadResult)> done);

  // Bytes that reads have given per second of theirs: a moving average, and a careful guess before the first.
  double read_bytes_per_second() const;
  DiskStoreStatus status() const;

 private:
  enum class State { off, ok, full, error };
  enum class Task { read, open, scan, write, sync, end };
  struct PendingRead {
    BlockRead request;
    std::function<void(BlockReadResult)> done;
  };
  using Time = std::chrono::steady_clock::time_point;

  // All that follows is the store's thread's, and is called without the lock.
  void run();
  Task next_task();
  void open();
  void scan();
  void sync();
  void serve_read();
  void read_blocks(const BlockRead& request, BlockReadResult* result);
  void touch(const DiskIndex::Name& name);
  void write_next();
  std::optional<StoredRun> take_next();
  bool store(const StoredRun& run);

  void stumble(State state, const std::string& message);
  void recover();
  void drop_pending();

  FileSystem& files_;
  const Clock& clock_;
  const DiskStoreOptions options_;
  RunFiles runs_;
  WriteBudget budget_;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable wake_;
  std::deque<PendingRead> reads_;
  std::deque<StoredRun> writes_;
  std::size_t pending_bytes_ = 0;
  std::optional<BlockKey> writing_;  // the last key of the run that is being written
  bool stopping_ = false;
  Time stop_at_;
  State state_ = State::ok;
  std::string message_;
  Time retry_at_;
  std::chrono::milliseconds pause_;  // after the next failure
  std::uint64_t written_bytes_ = 0, read_bytes_ = 0, dropped_bytes_ = 0;
  double rate_bytes_, rate_seconds_;

  std::thread thread_;  // the last: it uses all of the above
};

}  // namespace cortex

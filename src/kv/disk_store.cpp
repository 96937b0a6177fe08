#include "kv/disk_store.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <new>
#include <system_error>

#include "base/error.h"
#include "base/log.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds kFirstPause = 1s;
constexpr std::chrono::milliseconds kLongestPause = 60s;
constexpr std::size_t kUnsyncedDirectories = 32;

// What a disk gives that is neither fast nor bad, as if a run of blocks had been read at that pace.
constexpr double kSeedBytes = 16e6;
constexpr double kSeedSeconds = 0.08;
constexpr double kDecay = 0.9;  // of what earlier reads count, with each read

std::uint64_t file_bytes_of(const StoredRun& run) { return block_file_bytes(1, run.payload.size()); }

// The keys of the run that the chain's block `at` is in.
std::span<const BlockKey> run_around(std::span<const BlockKey> chain, int at) {
  const std::size_t begin = static_cast<std::size_t>(at - at % kBlocksPerFile);
  return chain.subspan(begin, std::min<std::size_t>(kBlocksPerFile, chain.size() - begin));
}

// Where the folder lies is for the log only: a status may be shown to strangers.
std::string without_path(std::string message, const std::filesystem::path& folder) {
  const std::string path = folder.string();
  for (auto at = message.find(path); !path.empty() && at != std::string::npos; at = message.find(path, at)) {
    message.replace(at, path.size(), "the folder");
  }
  return message;
}

bool begins_with(const StoredRun& run, const StoredRun& beginning) {
  return run.keys.size() >= beginning.keys.size() &&
         std::equal(beginning.keys.begin(), beginning.keys.end(), run.keys.begin());
}

}  // namespace

DiskStore::DiskStore(FileSystem& files, const Clock& clock, DiskStoreOptions options)
    : files_(files),
      clock_(clock),
      options_(std::move(options)),
      runs_(files, options_.directory, options_.limit_bytes, options_.free_bytes, options_.failpoint),
      budget_(options_.write_bytes_per_day),
      retry_at_(clock.steady_now()),
      pause_(kFirstPause),
      rate_bytes_(kSeedBytes),
      rate_seconds_(kSeedSeconds) {
  open();
  thread_ = std::thread([this] { run(); });
}

DiskStore::~DiskStore() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    stop_at_ = clock_.steady_now() + options_.flush_deadline;
  }
  wake_.notify_all();
  thread_.join();
}

int DiskStore::available(const BlockKey& root, std::span<const BlockKey> chain, int first) const {
  CORTEX_CHECK(first >= 0);
  int end = first;  // of what is available
  while (static_cast<std::size_t>(end) < chain.size()) {
    const auto keys = run_around(chain, end);
    const auto match = runs_.find(keys);
    int blocks = match ? match->blocks : 0;
    const bool may_be_unknown = !match && keys.size() == kBlocksPerFile && runs_.is_scanning();
    if (may_be_unknown && files_.is_file(runs_.path_of({root, keys.back()}))) blocks = kBlocksPerFile;
    if (blocks <= end % kBlocksPerFile) break;
    end += blocks - end % kBlocksPerFile;
    if (blocks < kBlocksPerFile) break;
  }
  return end - first;
}

bool DiskStore::has_run(const BlockKey& last_key) const {
  if (runs_.has(last_key)) return true;
  std::lock_guard lock(mutex_);
  return writing_ == last_key ||
         std::any_of(writes_.begin(), writes_.end(), [&](const StoredRun& run) { return run.keys.back() == last_key; });
}

void DiskStore::write(StoredRun run) {
  CORTEX_CHECK(!run.keys.empty() && run.keys.size() <= kBlocksPerFile);
  CORTEX_CHECK(run.first_block >= 0 && run.first_block % kBlocksPerFile == 0);
  CORTEX_CHECK(run.tokens.size() == run.keys.size() * kBlockTokens);
  CORTEX_CHECK(!run.payload.empty() && run.payload.size() % run.keys.size() == 0);
  CORTEX_CHECK(run.payload.size() / run.keys.size() <= kMaxBlockBytes);
  {
    std::lock_guard lock(mutex_);
    if (state_ == State::off) {
      dropped_bytes_ += run.payload.size();
      return;
    }
    if (std::any_of(writes_.begin(), writes_.end(), [&](const StoredRun& other) { return begins_with(other, run); })) {
      return;
    }
    std::erase_if(writes_, [&](const StoredRun& other) {
      if (!begins_with(run, other)) return false;
      pending_bytes_ -= other.payload.size();
      return true;
    });
    pending_bytes_ += run.payload.size();
    writes_.push_back(std::move(run));
    while (pending_bytes_ > options_.pending_bytes) {
      pending_bytes_ -= writes_.front().payload.size();
      dropped_bytes_ += writes_.front().payload.size();
      writes_.pop_front();
    }
  }
  wake_.notify_all();
}

void DiskStore::read(BlockRead request, std::function<void(BlockReadResult)> done) {
  CORTEX_CHECK(request.first >= 0 && request.count >= 0 && request.block_bytes > 0);
  CORTEX_CHECK(request.chain.size() >=
               static_cast<std::size_t>(request.first) + static_cast<std::size_t>(request.count));
  CORTEX_CHECK(request.tokens.size() >= request.chain.size() * kBlockTokens);
  {
    std::lock_guard lock(mutex_);
    reads_.push_back({std::move(request), std::move(done)});
  }
  wake_.notify_all();
}

double DiskStore::read_bytes_per_second() const {
  std::lock_guard lock(mutex_);
  return rate_bytes_ / rate_seconds_;
}

DiskStoreStatus DiskStore::status() const {
  static constexpr std::array<std::string_view, 4> kStates = {"off", "ok", "full", "error"};
  DiskStoreStatus status;
  status.scanning = runs_.is_scanning();
  status.files = runs_.count();
  status.bytes = runs_.bytes();
  const auto rejected = runs_.rejected();
  for (std::size_t i = 0; i < rejected.size(); ++i) {
    if (rejected[i] > 0) status.rejected.emplace_back(name_of(static_cast<BlockFileFault>(i)), rejected[i]);
  }
  std::lock_guard lock(mutex_);
  status.state = kStates.at(static_cast<std::size_t>(state_));
  status.message = message_;
  status.limit_bytes = options_.limit_bytes;
  status.written_bytes = written_bytes_;
  status.read_bytes = read_bytes_;
  status.dropped_bytes = dropped_bytes_;
  return status;
}

void DiskStore::run() {
  for (;;) {
    switch (next_task()) {
      case Task::read:
        serve_read();
        break;
      case Task::open:
        open();
        break;
      case Task::scan:
        scan();
        break;
      case Task::write:
        write_next();
        break;
      case Task::sync:
        sync();
        break;
      case Task::end:
        return;
    }
  }
}

DiskStore::Task DiskStore::next_task() {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (!reads_.empty()) return Task::read;
    const Time now = clock_.steady_now();
    const bool rests = now < retry_at_;
    if (stopping_ && (rests || now >= stop_at_)) break;
    if (!rests) {
      if (!runs_.is_open()) return Task::open;
      if (runs_.is_scanning()) return Task::scan;
      if (runs_.unsynced_directories() >= kUnsyncedDirectories) return Task::sync;
      if (!writes_.empty()) return Task::write;
      if (runs_.unsynced_directories() > 0) return Task::sync;
      if (stopping_) break;
    }
    if (rests) {
      wake_.wait_for(lock, std::min<Time::duration>(retry_at_ - now, 1s));
    } else {
      wake_.wait(lock);
    }
  }
  drop_pending();
  return Task::end;
}

void DiskStore::open() {
  try {
    if (const auto reason = runs_.open()) return stumble(State::off, options_.directory.string() + " " + *reason);
  } catch (const std::exception& error) {
    runs_.close();
    return stumble(State::error, error.what());
  }
  std::lock_guard lock(mutex_);
  if (state_ != State::off) return;
  state_ = State::ok;
  message_.clear();
}

void DiskStore::scan() {
  try {
    if (!runs_.scan()) recover();
  } catch (const std::exception& error) {
    stumble(State::error, error.what());
  }
}

void DiskStore::sync() {
  try {
    runs_.sync();
  } catch (const std::exception& error) {
    stumble(State::error, error.what());
  }
}

void DiskStore::serve_read() {
  PendingRead read;
  bool too_late = false;
  {
    std::lock_guard lock(mutex_);
    read = std::move(reads_.front());
    reads_.pop_front();
    too_late = stopping_;
  }
  BlockReadResult result;
  const Time begin = clock_.steady_now();
  try {
    if (!too_late && runs_.is_open()) read_blocks(read.request, &result);
  } catch (const std::bad_alloc&) {
    result = {};
  } catch (const std::system_error& error) {
    stumble(State::error, error.what());
  } catch (const std::exception& error) {
    result = {};
    stumble(State::error, error.what());
  }
  result.bytes.resize(static_cast<std::size_t>(result.blocks) * read.request.block_bytes);
  result.seconds = milliseconds_between(begin, clock_.steady_now()) / 1000;
  {
    std::lock_guard lock(mutex_);
    read_bytes_ += result.bytes.size();
    if (result.blocks > 0 && result.seconds > 0) {
      rate_bytes_ = rate_bytes_ * kDecay + static_cast<double>(result.bytes.size());
      rate_seconds_ = rate_seconds_ * kDecay + result.seconds;
    }
  }
  read.done(std::move(result));
}

void DiskStore::read_blocks(const BlockRead& request, BlockReadResult* result) {
  result->bytes.resize(static_cast<std::size_t>(request.count) * request.block_bytes);
  while (result->blocks < request.count) {
    const int at = request.first + result->blocks, in_file = at % kBlocksPerFile;
    const auto keys = run_around(request.chain, at);
    auto match = runs_.find(keys);
    if (!match && runs_.is_scanning()) match = {{request.root, keys.back()}, static_cast<int>(keys.size())};
    const int wanted = match ? std::min(match->blocks - in_file, request.count - result->blocks) : 0;
    if (wanted <= 0) return;
    const auto compared = static_cast<std::size_t>(in_file) + static_cast<std::size_t>(wanted);
    const auto tokens = std::span(request.tokens).subspan(static_cast<std::size_t>(at - in_file) * kBlockTokens);
    const ExpectedRun run{at - in_file, keys.first(compared), tokens.first(compared * kBlockTokens),
                          request.block_bytes};
    const auto out = std::span(result->bytes)
                         .subspan(static_cast<std::size_t>(result->blocks) * request.block_bytes,
                                  static_cast<std::size_t>(wanted) * request.block_bytes);
    const DiskIndex::Name name{request.root, match->name.last_key};
    const int got = runs_.read(name, run, in_file, out);
    result->blocks += got;
    if (got < wanted) return;
    touch(name);
  }
}

// For the order of eviction after the next start; without it the file is taken for less used than it is.
void DiskStore::touch(const DiskIndex::Name& name) {
  try {
    files_.set_modified(runs_.path_of(name), clock_.wall_now());
  } catch (const std::system_error& error) {
    log_debug(error.what());
  }
}

void DiskStore::write_next() {
  const auto run = take_next();
  if (!run) return;
  bool written = false;
  try {
    written = store(*run);
  } catch (const std::system_error& error) {
    stumble(is_no_space(error) ? State::full : State::error, error.what());
  } catch (const std::exception& error) {
    stumble(State::error, error.what());
  }
  std::lock_guard lock(mutex_);
  writing_.reset();
  if (!written) dropped_bytes_ += run->payload.size();
}

std::optional<StoredRun> DiskStore::take_next() {
  const Time now = clock_.steady_now();
  {
    std::lock_guard lock(mutex_);
    if (writes_.empty()) return std::nullopt;
    if (budget_.allows(now, file_bytes_of(writes_.front()))) {
      StoredRun run = std::move(writes_.front());
      writes_.pop_front();
      pending_bytes_ -= run.payload.size();
      writing_ = run.keys.back();
      return run;
    }
  }
  stumble(State::full,
          fmt::format("no more than {} bytes are to be written within a day", options_.write_bytes_per_day));
  return std::nullopt;
}

// Whether the run is on disk now.
bool DiskStore::store(const StoredRun& run) {
  if (runs_.has_all(run.keys)) return true;
  if (const auto reason = runs_.make_room(file_bytes_of(run))) {
    stumble(State::full, *reason);
    return false;
  }
  budget_.spend(clock_.steady_now(), file_bytes_of(run));
  runs_.add(run);
  {
    std::lock_guard lock(mutex_);
    written_bytes_ += file_bytes_of(run);
  }
  recover();
  return true;
}

// Nothing is written for a while, which is longer each time.
void DiskStore::stumble(State state, const std::string& message) {
  std::lock_guard lock(mutex_);
  std::string shown = without_path(message, options_.directory);
  if (state != state_ || shown != message_) log_warning("KV blocks are not kept on disk: " + message);
  state_ = state;
  message_ = std::move(shown);
  retry_at_ = clock_.steady_now() + pause_;
  pause_ = std::min(2 * pause_, kLongestPause);
  if (state == State::off) drop_pending();
}

void DiskStore::recover() {
  std::lock_guard lock(mutex_);
  if (state_ != State::ok) log_info("KV blocks are kept on disk again");
  state_ = State::ok;
  message_.clear();
  pause_ = kFirstPause;
}

// Under the lock.
void DiskStore::drop_pending() {
  for (const StoredRun& run : writes_) dropped_bytes_ += run.payload.size();
  writes_.clear();
  pending_bytes_ = 0;
}

}  // namespace cortex

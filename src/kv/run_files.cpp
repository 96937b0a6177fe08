#include "kv/run_files.h"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <system_error>
#include <utility>
#include <variant>

#include "base/log.h"
#include "kv/block_reader.h"

namespace cortex {
namespace {

// An eviction frees a sixteenth of the quota more than is asked for, so that not every write brings one about.
constexpr std::uint64_t kBurstsInLimit = 16;
constexpr std::uint64_t kQuarantinesInLimit = 16;
constexpr std::uint64_t kMaxQuarantineBytes = 64 << 20;

std::uint64_t stored_bytes_of(const StoredRun& run) { return stored_bytes(block_file_bytes(1, run.payload.size())); }

}  // namespace

// What a scan finds is put into the index, removed or put into quarantine.
class RunFiles::Census : public StoreScan::Visitor {
 public:
  explicit Census(RunFiles& runs) : runs_(runs) {}

  void visit_temporary(const std::filesystem::path& path) override { runs_.folder_.remove(path); }
  void visit_quarantined(const std::string& name, const FileStatus& status) override {
    runs_.folder_.found_in_quarantine(name, status.size_bytes);
  }
  void visit_other(const std::filesystem::path& /*path*/, const FileStatus& status) override {
    runs_.folder_.found_other(status.size_bytes);
  }

  void visit_run(const std::filesystem::path& path, const BlockKey& root, const BlockKey& last_key,
                 const FileStatus& status) override {
    if (path != runs_.path_of({root, last_key})) return runs_.reject(path, BlockFileFault::name);
    const auto opened = BlockReader::open(runs_.files_, path, root, last_key);
    if (const auto* fault = std::get_if<BlockFileFault>(&opened)) return runs_.reject(path, *fault);
    const BlockFileHeader& header = std::get<BlockReader>(opened).header();
    if (runs_.has(last_key)) return;
    // A crash came between the writing of a run and the removal of what it made superfluous.
    if (runs_.has_all(header.keys)) return runs_.folder_.remove(path);
    {
      std::lock_guard lock(runs_.mutex_);
      runs_.index_.add({root, last_key}, header.parent, header.keys, stored_bytes(status.size_bytes), status.modified);
    }
    runs_.remove_shorter(header.keys);
  }

 private:
  RunFiles& runs_;
};

RunFiles::RunFiles(FileSystem& files, std::filesystem::path directory, std::uint64_t limit_bytes,
                   std::uint64_t free_bytes, StoreFolder::Failpoint failpoint)
    : files_(files),
      directory_(std::move(directory)),
      limit_bytes_(limit_bytes),
      free_bytes_(free_bytes),
      failpoint_(std::move(failpoint)),
      folder_(files, directory_, std::min(limit_bytes / kQuarantinesInLimit, kMaxQuarantineBytes), failpoint_) {}

std::optional<DiskIndex::Match> RunFiles::find(std::span<const BlockKey> keys) const {
  std::lock_guard lock(mutex_);
  return index_.find(keys);
}

bool RunFiles::has(const BlockKey& last_key) const {
  std::lock_guard lock(mutex_);
  return index_.has(last_key);
}

bool RunFiles::has_all(std::span<const BlockKey> keys) const {
  const auto match = find(keys);
  return match && match->blocks == static_cast<int>(keys.size());
}

bool RunFiles::is_scanning() const {
  std::lock_guard lock(mutex_);
  return scanning_;
}

std::uint64_t RunFiles::count() const {
  std::lock_guard lock(mutex_);
  return index_.files();
}

std::array<std::uint64_t, kBlockFileFaults> RunFiles::rejected() const {
  std::lock_guard lock(mutex_);
  return rejected_;
}

std::filesystem::path RunFiles::path_of(const DiskIndex::Name& name) const {
  return directory_ / block_file_path(name.root, name.last_key);
}

std::optional<std::string> RunFiles::open() {
  close();
  if (auto reason = folder_.open()) return reason;
  scan_.emplace(files_, directory_);
  std::lock_guard lock(mutex_);
  scanning_ = true;
  return std::nullopt;
}

void RunFiles::close() {
  folder_.close();
  scan_.reset();
  std::lock_guard lock(mutex_);
  index_ = {};
  scanning_ = false;
}

void RunFiles::check_folder() {
  bool there = false;
  try {
    there = folder_.is_there();
  } catch (const std::system_error&) {
    close();
    throw;
  }
  if (there) return;
  close();
  throw std::system_error(ENOENT, std::generic_category(), directory_.string() + ": is gone, or another has its name");
}

bool RunFiles::scan() {
  check_folder();
  try {
    Census census(*this);
    const bool more = scan_->step(census);
    at("mid_index");
    if (more) return true;
    if (bytes() > limit_bytes_) evict(bytes() - limit_bytes_);
  } catch (...) {
    close();
    throw;
  }
  scan_.reset();
  std::lock_guard lock(mutex_);
  scanning_ = false;
  return false;
}

int RunFiles::read(const DiskIndex::Name& name, const ExpectedRun& run, int begin, std::span<std::byte> out) {
  check_folder();
  const std::filesystem::path path = path_of(name);
  const auto refuse = [&](BlockFileFault fault) {
    {
      std::lock_guard lock(mutex_);
      const bool known = index_.has(name);
      // During a scan files are looked for by name: one that is not there is no fault.
      if (fault == BlockFileFault::missing && !known) return;
      if (known) index_.remove(name.last_key);
    }
    reject(path, fault);
  };
  const auto opened = BlockReader::open(files_, path, name.root, name.last_key);
  if (const auto* fault = std::get_if<BlockFileFault>(&opened)) return refuse(*fault), 0;
  const BlockReader& file = std::get<BlockReader>(opened);
  if (!file.matches(run.first_block, run.keys, run.tokens, run.block_bytes)) {
    // The request may be wrong where the file is right.
    std::lock_guard lock(mutex_);
    ++rejected_[static_cast<std::size_t>(BlockFileFault::request)];
    return 0;
  }
  int blocks = 0;
  for (; !out.empty(); ++blocks, out = out.subspan(run.block_bytes)) {
    if (const auto fault = file.read(begin + blocks, out.first(run.block_bytes))) return refuse(*fault), blocks;
  }
  std::lock_guard lock(mutex_);
  index_.use(name.last_key);
  return blocks;
}

// Counts what is wrong with a file that is not in the index, and sees to it that it is not met again.
void RunFiles::reject(const std::filesystem::path& path, BlockFileFault fault) {
  {
    std::lock_guard lock(mutex_);
    ++rejected_[static_cast<std::size_t>(fault)];
  }
  log_warning(fmt::format("KV blocks: {} is put away: {}", path.string(), name_of(fault)));
  try {
    if (const auto status = files_.status(path)) folder_.quarantine(path, status->size_bytes, name_of(fault));
  } catch (const std::system_error&) {
    close();
    throw;
  }
}

std::optional<std::string> RunFiles::make_room(std::uint64_t file_bytes) {
  check_folder();
  const std::uint64_t wanted = stored_bytes(file_bytes);
  if (wanted > limit_bytes_ || folder_.bytes_beside_runs() > limit_bytes_ - wanted) {
    return fmt::format("a file of {} bytes has no room within {} bytes, {} of which are others' or in quarantine",
                       wanted, limit_bytes_, folder_.bytes_beside_runs());
  }
  if (bytes() > limit_bytes_ - wanted) evict(bytes() - (limit_bytes_ - wanted) + limit_bytes_ / kBurstsInLimit);
  const std::uint64_t missing = missing_on_disk(wanted);
  if (missing == 0) return std::nullopt;
  // A cache gives way to what else the disk is for, but not in vain.
  if (missing <= bytes() - folder_.bytes_beside_runs()) evict(missing);
  if (missing_on_disk(wanted) == 0) return std::nullopt;
  return fmt::format("the disk of {} is to keep {} bytes free, and {} are", directory_.string(), free_bytes_,
                     files_.available_bytes(directory_));
}

std::uint64_t RunFiles::missing_on_disk(std::uint64_t file_bytes) const {
  const std::uint64_t free = files_.available_bytes(directory_);
  const std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
  const std::uint64_t wanted = free_bytes_ > most - file_bytes ? most : free_bytes_ + file_bytes;
  return wanted > free ? wanted - free : 0;
}

void RunFiles::add(const StoredRun& run) {
  write(run);
  {
    std::lock_guard lock(mutex_);
    index_.add({run.root, run.keys.back()}, run.parent, run.keys, stored_bytes_of(run));
  }
  remove_shorter(run.keys);
}

void RunFiles::write(const StoredRun& run) {
  try {
    folder_.write(run);
  } catch (const std::system_error& error) {
    // Others may have taken the room that was there a moment ago.
    if (!is_no_space(error)) throw;
    evict(stored_bytes_of(run));
    folder_.write(run);
  }
}

void RunFiles::remove_shorter(std::span<const BlockKey> keys) {
  for (;;) {
    std::optional<DiskIndex::Name> shorter;
    {
      std::lock_guard lock(mutex_);
      shorter = index_.find_shorter(keys);
    }
    if (!shorter) return;
    folder_.sync();  // the longer one stays, whatever happens
    folder_.remove(path_of(*shorter));
    std::lock_guard lock(mutex_);
    index_.remove(shorter->last_key);
  }
}

void RunFiles::evict(std::uint64_t bytes) {
  const std::uint64_t before = this->bytes();
  const std::uint64_t goal = before > bytes ? before - bytes : 0;
  while (this->bytes() > goal) {
    std::optional<DiskIndex::Name> victim;
    {
      std::lock_guard lock(mutex_);
      victim = index_.victim();
    }
    if (!victim) return;
    folder_.remove(path_of(*victim));
    {
      std::lock_guard lock(mutex_);
      index_.remove(victim->last_key);
    }
    at("mid_evict");
  }
}

std::uint64_t RunFiles::bytes() const {
  std::lock_guard lock(mutex_);
  return index_.bytes() + folder_.bytes_beside_runs();
}

void RunFiles::at(std::string_view failpoint) const {
  if (failpoint_) failpoint_(failpoint);
}

}  // namespace cortex

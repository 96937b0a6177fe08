#include "kv/store_folder.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>
#include <system_error>
#include <utility>

namespace cortex {
namespace {

constexpr std::size_t kMaxQuarantined = 16;

}  // namespace

bool is_no_space(const std::system_error& error) {
  return error.code() == std::errc::no_space_on_device ||
         error.code() == std::error_code(EDQUOT, std::generic_category());
}

StoreFolder::StoreFolder(FileSystem& files, std::filesystem::path directory, std::uint64_t quarantine_bytes,
                         Failpoint failpoint)
    : files_(files),
      directory_(std::move(directory)),
      quarantine_limit_bytes_(quarantine_bytes),
      failpoint_(std::move(failpoint)) {}

std::optional<std::string> StoreFolder::open() {
  close();
  auto status = files_.status(directory_);
  if (!status) {
    if (directory_.has_parent_path()) files_.create_directories(directory_.parent_path());
    files_.create_directory(directory_);
    status = files_.status(directory_);
    if (!status) return "can't be made";
  }
  if (status->kind == FileStatus::Kind::link) return "is a symbolic link; name the folder itself";
  if (status->kind != FileStatus::Kind::directory) return "is not a folder";
  if (!status->owned) return "belongs to another user";
  if (status->permissions & 077) {
    return fmt::format("is open to other users (mode {:03o}); chmod 700 it", status->permissions);
  }
  auto lock = files_.lock(path("LOCK"));
  if (!lock) return "is in use by another server";
  identity_ = *status;
  lock_ = std::move(lock);
  for (const std::string_view name : {"tmp", "quarantine", "v1"}) ensure_directory(path(name));
  return std::nullopt;
}

bool StoreFolder::is_there() const {
  const auto status = files_.status(directory_);
  return status && status->kind == FileStatus::Kind::directory && status->device == identity_.device &&
         status->number == identity_.number;
}

void StoreFolder::close() {
  lock_.reset();
  unsynced_.clear();
  quarantined_.clear();
  quarantined_bytes_ = 0;
  other_bytes_ = 0;
}

void StoreFolder::ensure_directory(const std::filesystem::path& path) {
  const auto status = files_.status(path);
  if (status && status->kind == FileStatus::Kind::directory) return;
  if (status) throw std::system_error(ENOTDIR, std::generic_category(), path.string());
  files_.create_directory(path);
  unsynced_.insert(path.parent_path());
}

void StoreFolder::fill(WritableFile& file, const StoredRun& run) {
  const auto header = make_block_file_header(run);
  const std::span<const std::byte> header_bytes = header, payload = run.payload;
  file.write(header_bytes.first(header.size() / 2));
  at("half_header");
  file.write(header_bytes.subspan(header.size() / 2));
  file.write(payload.first(payload.size() / 2));
  at("half_payload");
  file.write(payload.subspan(payload.size() / 2));
  file.sync();
}

void StoreFolder::write(const StoredRun& run) {
  const std::filesystem::path target = directory_ / block_file_path(run.root, run.keys.back());
  const std::filesystem::path temporary = path("tmp") / target.filename();
  ensure_directory(target.parent_path().parent_path());
  ensure_directory(target.parent_path());
  remove(temporary);  // of a write that failed and could not be undone
  try {
    const auto file = files_.create(temporary);
    at("open");
    fill(*file, run);
    at("before_rename");
    files_.rename(temporary, target);
  } catch (...) {
    discard(temporary, block_file_bytes(1, run.payload.size()));
    throw;
  }
  at("after_rename");
  unsynced_.insert(target.parent_path());
}

void StoreFolder::discard(const std::filesystem::path& temporary, std::uint64_t file_bytes) {
  try {
    remove(temporary);
  } catch (const std::system_error&) {
    found_other(file_bytes);  // until the next start, which removes it
  }
}

void StoreFolder::sync() {
  if (unsynced_.empty()) return;
  at("before_dir_sync");
  // From the folder down, so that nothing is below a name that is lost.
  for (const std::filesystem::path& directory : std::exchange(unsynced_, {})) files_.sync_directory(directory);
}

void StoreFolder::remove(const std::filesystem::path& path) {
  if (files_.status(path)) files_.remove(path);
}

void StoreFolder::quarantine(const std::filesystem::path& path, std::uint64_t file_bytes, std::string_view reason) {
  const std::uint64_t bytes = stored_bytes(file_bytes);
  if (bytes > quarantine_limit_bytes_) return remove(path);
  trim_quarantine(bytes);
  std::string name = fmt::format("{:012}-{}-{}", next_quarantined_++, reason, path.filename().string());
  files_.rename(path, this->path("quarantine") / name);
  quarantined_.emplace(std::move(name), bytes);
  quarantined_bytes_ += bytes;
}

void StoreFolder::trim_quarantine(std::uint64_t room_bytes) {
  while (!quarantined_.empty() &&
         (quarantined_.size() >= kMaxQuarantined || quarantined_bytes_ + room_bytes > quarantine_limit_bytes_)) {
    const auto oldest = quarantined_.begin();
    remove(path("quarantine") / oldest->first);
    quarantined_bytes_ -= oldest->second;
    quarantined_.erase(oldest);
  }
}

void StoreFolder::found_in_quarantine(std::string name, std::uint64_t file_bytes) {
  std::uint64_t number = 0;
  for (const char digit : std::string_view(name).substr(0, 12)) {
    if (digit < '0' || digit > '9') break;
    number = number * 10 + static_cast<std::uint64_t>(digit - '0');
  }
  next_quarantined_ = std::max(next_quarantined_, number + 1);
  quarantined_.emplace(std::move(name), stored_bytes(file_bytes));
  quarantined_bytes_ += stored_bytes(file_bytes);
  trim_quarantine(0);
}

}  // namespace cortex

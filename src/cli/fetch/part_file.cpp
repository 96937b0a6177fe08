#include "cli/fetch/part_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "cli/fetch/progress.h"
#include "cli/interrupt.h"

namespace cortex {
namespace {

constexpr std::size_t kReadBytes = 1 << 20;

Digest digest_for(const std::string& checksum, std::uint64_t size_bytes) {
  return is_sha256(checksum) ? Digest::sha256() : Digest::git_blob(size_bytes);
}

}  // namespace

PartFile::PartFile(std::filesystem::path path, std::uint64_t size_bytes, std::string checksum)
    : path_(std::move(path)),
      part_(path_.string() + ".incomplete"),
      size_bytes_(size_bytes),
      checksum_(std::move(checksum)),
      digest_(digest_for(checksum_, size_bytes_)) {
  CORTEX_CHECK(is_sha256(checksum_) || is_git_sha1(checksum_));
  std::error_code ignored;
  std::filesystem::create_directories(path_.parent_path(), ignored);
  descriptor_ = Descriptor(::open(part_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (descriptor_.get() < 0) fail(errno);
  read_part();
}

void PartFile::read_part() {
  std::vector<std::byte> bytes(kReadBytes);
  for (;;) {
    InterruptWatch::check();
    const ssize_t got = ::read(descriptor_.get(), bytes.data(), bytes.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(errno);
    if (got == 0) break;
    digest_.add(std::span(bytes).first(static_cast<std::size_t>(got)));
    here_bytes_ += static_cast<std::uint64_t>(got);
  }
  if (here_bytes_ > size_bytes_) start_over();
}

void PartFile::append(std::string_view bytes) {
  if (bytes.size() > size_bytes_ - here_bytes_) {
    drop();
    throw Error(ErrorCode::invalid_weights,
                fmt::format("{}: more than its {} bytes came; what was there is removed", path_.string(), size_bytes_));
  }
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(errno);
    const auto size = static_cast<std::size_t>(written);
    digest_.add(std::as_bytes(std::span(bytes).first(size)));
    here_bytes_ += size;
    bytes.remove_prefix(size);
  }
}

void PartFile::start_over() {
  if (::ftruncate(descriptor_.get(), 0) != 0 || ::lseek(descriptor_.get(), 0, SEEK_SET) != 0) fail(errno);
  digest_ = digest_for(checksum_, size_bytes_);
  here_bytes_ = 0;
}

void PartFile::finish() {
  CORTEX_CHECK(is_whole());
  const std::string found = digest_.finish();
  if (found != checksum_) {
    drop();
    throw Error(ErrorCode::invalid_weights,
                fmt::format("{}: the checksum of what came is {}, expected {}; it is removed: try again",
                            path_.string(), found, checksum_));
  }
  if (::fsync(descriptor_.get()) != 0 || ::rename(part_.c_str(), path_.c_str()) != 0) fail(errno);
}

void PartFile::drop() {
  std::error_code ignored;
  std::filesystem::remove(part_, ignored);
}

void PartFile::fail(int error) const {
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  if (!full) {
    throw Error(ErrorCode::weights_io_error,
                fmt::format("{}: can't be written: {}", part_.string(), std::generic_category().message(error)));
  }
  throw Error(
      ErrorCode::weights_io_error,
      fmt::format("{}: the disk is full ({}); {} more are needed; make room and try again: it goes on from there",
                  part_.string(), std::generic_category().message(error), format_bytes(size_bytes_ - here_bytes_)));
}

}  // namespace cortex

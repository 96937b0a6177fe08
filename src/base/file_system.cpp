#include "base/file_system.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/descriptor.h"

namespace cortex {
namespace {

[[noreturn]] void fail(int error, const std::filesystem::path& path, const char* what) {
  throw std::system_error(error, std::generic_category(), path.string() + ": " + what);
}

// What a signal may interrupt, until it is done.
template <typename Call>
auto uninterrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

// Data and size, through the caches of the device.
int sync_data(int descriptor) {
#ifdef __APPLE__
  if (::fcntl(descriptor, F_BARRIERFSYNC) == 0 || ::fcntl(descriptor, F_FULLFSYNC) == 0) return 0;
  return ::fsync(descriptor);
#else
  return ::fdatasync(descriptor);
#endif
}

std::chrono::system_clock::time_point time_point_of(const timespec& time) {
  return std::chrono::system_clock::time_point(std::chrono::duration_cast<std::chrono::system_clock::duration>(
      std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec)));
}

FileStatus status_of(const struct stat& status) {
  FileStatus out;
  if (S_ISREG(status.st_mode)) out.kind = FileStatus::Kind::file;
  if (S_ISDIR(status.st_mode)) out.kind = FileStatus::Kind::directory;
  if (S_ISLNK(status.st_mode)) out.kind = FileStatus::Kind::link;
  out.size_bytes = static_cast<std::uint64_t>(status.st_size);
#ifdef __APPLE__
  out.modified = time_point_of(status.st_mtimespec);
#else
  out.modified = time_point_of(status.st_mtim);
#endif
  out.permissions = status.st_mode & 0777;
  out.owned = status.st_uid == ::geteuid();
  out.device = static_cast<std::uint64_t>(status.st_dev);
  out.number = static_cast<std::uint64_t>(status.st_ino);
  return out;
}

class PosixWritableFile : public WritableFile {
 public:
  explicit PosixWritableFile(std::filesystem::path path)
      : path_(std::move(path)),
        descriptor_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)) {
    if (descriptor_.get() < 0) fail(errno, path_, "can't be created");
  }

  std::size_t write_some(std::span<const std::byte> bytes) override {
    const ssize_t written = ::write(descriptor_.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) return 0;
    if (written < 0) fail(errno, path_, "can't be written");
    if (written == 0 && !bytes.empty()) fail(EIO, path_, "takes no more bytes");
    return static_cast<std::size_t>(written);
  }

  void sync() override {
    if (uninterrupted([&] { return sync_data(descriptor_.get()); }) != 0) fail(errno, path_, "can't be synced");
  }

 private:
  std::filesystem::path path_;
  Descriptor descriptor_;
};

class PosixLock : public FileLock {
 public:
  explicit PosixLock(Descriptor descriptor) : descriptor_(std::move(descriptor)) {}

 private:
  Descriptor descriptor_;
};

class PosixFile : public RandomAccessFile {
 public:
  explicit PosixFile(std::filesystem::path path)
      : path_(std::move(path)), descriptor_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (descriptor_.get() < 0) fail(errno, path_, "can't be opened");
    struct stat status{};
    if (::fstat(descriptor_.get(), &status) != 0) fail(errno, path_, "can't be examined");
    if (!S_ISREG(status.st_mode)) fail(EINVAL, path_, "is not a regular file");
    size_bytes_ = static_cast<std::uint64_t>(status.st_size);
  }

  const std::filesystem::path& path() const override { return path_; }
  std::uint64_t size_bytes() const override { return size_bytes_; }

  void read(std::uint64_t offset, std::span<std::byte> out) const override {
    while (!out.empty()) {
      const ssize_t got = ::pread(descriptor_.get(), out.data(), out.size(), static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail(errno, path_, "can't be read");
      if (got == 0) fail(EIO, path_, "ends before the bytes that were asked for");
      offset += static_cast<std::uint64_t>(got);
      out = out.subspan(static_cast<std::size_t>(got));
    }
  }

 private:
  std::filesystem::path path_;
  Descriptor descriptor_;
  std::uint64_t size_bytes_ = 0;
};

class PosixFileSystem : public FileSystem {
 public:
  bool is_file(const std::filesystem::path& path) const override {
    std::error_code ignored;
    return std::filesystem::is_regular_file(path, ignored);
  }

  bool is_directory(const std::filesystem::path& path) const override {
    std::error_code ignored;
    return std::filesystem::is_directory(path, ignored);
  }

  bool exists(const std::filesystem::path& path) const override {
    std::error_code ignored;
    return std::filesystem::symlink_status(path, ignored).type() != std::filesystem::file_type::not_found;
  }

  std::filesystem::path canonical(const std::filesystem::path& path) const override {
    std::error_code error;
    std::filesystem::path real = std::filesystem::canonical(path, error);
    if (error) throw std::system_error(error, path.string());
    return real;
  }

  std::vector<std::string> list(const std::filesystem::path& directory) const override {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  std::shared_ptr<const RandomAccessFile> open(const std::filesystem::path& path) const override {
    return std::make_shared<PosixFile>(path);
  }

  void replace(const std::filesystem::path& path, std::span<const std::byte> content) override {
    std::string temporary = path.string() + ".XXXXXX";
    Descriptor descriptor(::mkostemp(temporary.data(), O_CLOEXEC));
    if (descriptor.get() < 0) fail(errno, path, "can't be written");
    try {
      write_all(descriptor.get(), path, content);
      if (::fsync(descriptor.get()) != 0) fail(errno, path, "can't be synced");
      if (::rename(temporary.c_str(), path.c_str()) != 0) fail(errno, path, "can't be replaced");
    } catch (...) {
      ::unlink(temporary.c_str());
      throw;
    }
  }

  void remove(const std::filesystem::path& path) override { std::filesystem::remove(path); }

  void create_directories(const std::filesystem::path& path) override { std::filesystem::create_directories(path); }

  std::optional<FileStatus> status(const std::filesystem::path& path) const override {
    struct stat status{};
    if (::lstat(path.c_str(), &status) == 0) return status_of(status);
    if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
    fail(errno, path, "can't be examined");
  }

  std::unique_ptr<WritableFile> create(const std::filesystem::path& path) override {
    return std::make_unique<PosixWritableFile>(path);
  }

  void create_directory(const std::filesystem::path& path) override {
    if (::mkdir(path.c_str(), 0700) != 0) fail(errno, path, "can't be made");
  }

  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) fail(errno, to, "can't be renamed to");
  }

  void sync_directory(const std::filesystem::path& directory) override {
    const Descriptor descriptor(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (descriptor.get() < 0) fail(errno, directory, "can't be opened");
    if (uninterrupted([&] { return ::fsync(descriptor.get()); }) != 0) fail(errno, directory, "can't be synced");
  }

  void set_modified(const std::filesystem::path& path, std::chrono::system_clock::time_point time) override {
    const auto since = std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch());
    timespec stamp{};
    stamp.tv_sec = static_cast<time_t>(std::chrono::floor<std::chrono::seconds>(since).count());
    stamp.tv_nsec = static_cast<long>((since - std::chrono::floor<std::chrono::seconds>(since)).count());
    const std::array<timespec, 2> accessed_and_modified = {stamp, stamp};
    if (::utimensat(AT_FDCWD, path.c_str(), accessed_and_modified.data(), AT_SYMLINK_NOFOLLOW) != 0) {
      fail(errno, path, "can't be given a time");
    }
  }

  std::uint64_t available_bytes(const std::filesystem::path& path) const override {
    struct statvfs status{};
    if (uninterrupted([&] { return ::statvfs(path.c_str(), &status); }) != 0) fail(errno, path, "can't be examined");
    return static_cast<std::uint64_t>(status.f_bavail) * static_cast<std::uint64_t>(status.f_frsize);
  }

  std::unique_ptr<FileLock> lock(const std::filesystem::path& path) override {
    Descriptor descriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (descriptor.get() < 0) fail(errno, path, "can't be opened");
    if (uninterrupted([&] { return ::flock(descriptor.get(), LOCK_EX | LOCK_NB); }) != 0) {
      if (errno == EWOULDBLOCK) return nullptr;
      fail(errno, path, "can't be locked");
    }
    return std::make_unique<PosixLock>(std::move(descriptor));
  }

 private:
  static void write_all(int descriptor, const std::filesystem::path& path, std::span<const std::byte> content) {
    while (!content.empty()) {
      const ssize_t written = ::write(descriptor, content.data(), content.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail(errno, path, "can't be written");
      content = content.subspan(static_cast<std::size_t>(written));
    }
  }
};

}  // namespace

void WritableFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) bytes = bytes.subspan(write_some(bytes));
}

std::string FileSystem::read_text(const std::filesystem::path& path, std::uint64_t limit_bytes) const {
  const auto file = open(path);
  if (file->size_bytes() > limit_bytes) fail(EFBIG, path, "is larger than a file of its kind may be");
  std::string text(file->size_bytes(), '\0');
  file->read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

FileSystem& real_file_system() {
  static PosixFileSystem instance;
  return instance;
}

}  // namespace cortex

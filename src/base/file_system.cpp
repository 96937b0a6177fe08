#include "base/file_system.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/descriptor.h"

namespace cortex {
namespace {

[[noreturn]] void fail(int error, const std::filesystem::path& path, const char* what) {
  throw std::system_error(error, std::generic_category(), path.string() + ": " + what);
}

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

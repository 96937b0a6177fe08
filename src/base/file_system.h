// The disk, behind an interface so that tests can make it fail (tests/fakes/faulty_file_system.h). I/O errors are
// std::system_error with the path in their text; callers turn them into their own Error. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cortex {

// An open regular file that is read at offsets, never mapped.
class RandomAccessFile {
 public:
  virtual ~RandomAccessFile() = default;
  virtual const std::filesystem::path& path() const = 0;
  virtual std::uint64_t size_bytes() const = 0;  // when it was opened
  // Fills `out` from `offset` on, or throws: a short file is an error.
  virtual void read(std::uint64_t offset, std::span<std::byte> out) const = 0;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual bool is_file(const std::filesystem::path& path) const = 0;
  virtual bool is_directory(const std::filesystem::path& path) const = 0;
  // Whether something has this name, whatever it is; a link need not lead anywhere.
  virtual bool exists(const std::filesystem::path& path) const = 0;
  // Where the path leads, absolute and free of links and dots; throws where that is nowhere.
  virtual std::filesystem::path canonical(const std::filesystem::path& path) const = 0;
  // Names in a directory, sorted.
  virtual std::vector<std::string> list(const std::filesystem::path& directory) const = 0;
  // Throws if it is not a regular file (a FIFO or device would block or lie).
  virtual std::shared_ptr<const RandomAccessFile> open(const std::filesystem::path& path) const = 0;
  // Writes a temporary file beside `path`, syncs it and renames it over `path`: readers see the old or the new.
  virtual void replace(const std::filesystem::path& path, std::span<const std::byte> content) = 0;
  virtual void remove(const std::filesystem::path& path) = 0;
  virtual void create_directories(const std::filesystem::path& path) = 0;

  // The whole file as text; throws std::system_error (EFBIG) over `limit_bytes`.
  std::string read_text(const std::filesystem::path& path, std::uint64_t limit_bytes) const;
};

// The machine's own; lives as long as the process.
FileSystem& real_file_system();

}  // namespace cortex

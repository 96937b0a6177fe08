// The disk, behind an interface so that tests can make it fail (tests/fakes/faulty_file_system.h). I/O errors are
// std::system_error with the path in their text; callers turn them into their own Error. Any thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
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

// A new file that is written from its beginning on. One thread.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  // All of it, in as many calls as that takes.
  void write(std::span<const std::byte> bytes);
  // Before it has returned, a crash of the machine may lose any part of what was written.
  virtual void sync() = 0;

  // One call: how many bytes it took, 0 when a signal came before the first.
  virtual std::size_t write_some(std::span<const std::byte> bytes) = 0;
};

// Held as long as the object lives; gone with the process, however that ends.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

// What a name stands for; of a link the link itself.
struct FileStatus {
  enum class Kind { file, directory, link, other };

  Kind kind = Kind::other;
  std::uint64_t size_bytes = 0;
  std::chrono::system_clock::time_point modified;
  unsigned permissions = 0;              // the nine bits of chmod
  bool owned = false;                    // by the user that this process runs as
  std::uint64_t device = 0, number = 0;  // together they tell files apart, whatever their names
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

  // Nothing where nothing has this name.
  virtual std::optional<FileStatus> status(const std::filesystem::path& path) const = 0;
  // One that only its owner can read and write; throws where something has the name.
  virtual std::unique_ptr<WritableFile> create(const std::filesystem::path& path) = 0;
  // One that only its owner can use; throws where something has the name.
  virtual void create_directory(const std::filesystem::path& path) = 0;
  // In one step: `to` is what it was or what `from` was.
  virtual void rename(const std::filesystem::path& from, const std::filesystem::path& to) = 0;
  // Before it has returned, a crash of the machine may undo what was created, renamed or removed in the directory.
  virtual void sync_directory(const std::filesystem::path& directory) = 0;
  virtual void set_modified(const std::filesystem::path& path, std::chrono::system_clock::time_point time) = 0;
  // What the file system that holds `path` has room for.
  virtual std::uint64_t available_bytes(const std::filesystem::path& path) const = 0;
  // Locks the file, which is made if it is not there; null when somebody else has locked it.
  virtual std::unique_ptr<FileLock> lock(const std::filesystem::path& path) = 0;

  // The whole file as text; throws std::system_error (EFBIG) over `limit_bytes`.
  std::string read_text(const std::filesystem::path& path, std::uint64_t limit_bytes) const;
};

// The machine's own; lives as long as the process.
FileSystem& real_file_system();

}  // namespace cortex

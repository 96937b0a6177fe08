// A disk that fails when a test says so. It wraps another one; files opened through it count their reads here too.
// Any thread.
#pragma once

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/file_system.h"

namespace cortex {

class FaultyFileSystem : public FileSystem {
 public:
  enum class Call {
    open,
    read,
    list,
    replace,
    remove,
    create_directories,
    status,
    create,
    write,
    sync,
    create_directory,
    rename,
    sync_directory,
    set_modified,
    available_bytes,
    lock
  };

  explicit FaultyFileSystem(FileSystem& disk) : disk_(disk) {}

  // The `nth` call of this kind from now on throws std::system_error; 1 is the next. One fault a kind. A write that is
  // to fail with EINTR is interrupted before its first byte instead.
  void fail(Call call, int nth, int error = EIO) { faults_->fail(call, nth, error, false); }
  // So do all after it, until mend().
  void fail_from(Call call, int nth, int error = EIO) { faults_->fail(call, nth, error, true); }
  void mend() { faults_->mend(); }
  // A write takes no more than so many bytes at a time.
  void shorten_writes(std::size_t bytes) { faults_->shorten_writes(bytes); }
  // What available_bytes() says, whatever the disk does.
  void set_available(std::uint64_t bytes) { faults_->set_available(bytes); }
  // Reads past this offset fail, as in files that were cut after they were opened.
  void cut_files_to(std::uint64_t bytes) { faults_->cut_to(bytes); }
  // As if nothing had this name.
  void hide(const std::filesystem::path& path) { faults_->hide(path); }
  // Calls of this kind so far, failed ones included.
  int calls(Call call) const { return faults_->calls(call); }

  bool is_file(const std::filesystem::path& path) const override {
    return !faults_->hides(path) && disk_.is_file(path);
  }
  bool is_directory(const std::filesystem::path& path) const override {
    return !faults_->hides(path) && disk_.is_directory(path);
  }
  bool exists(const std::filesystem::path& path) const override { return !faults_->hides(path) && disk_.exists(path); }
  std::filesystem::path canonical(const std::filesystem::path& path) const override {
    faults_->meet_hidden(path);
    return disk_.canonical(path);
  }
  std::vector<std::string> list(const std::filesystem::path& directory) const override {
    faults_->meet(Call::list, directory);
    return disk_.list(directory);
  }
  std::shared_ptr<const RandomAccessFile> open(const std::filesystem::path& path) const override {
    faults_->meet(Call::open, path);
    faults_->meet_hidden(path);
    return std::make_shared<File>(disk_.open(path), faults_);
  }
  void replace(const std::filesystem::path& path, std::span<const std::byte> content) override {
    faults_->meet(Call::replace, path);
    disk_.replace(path, content);
  }
  void remove(const std::filesystem::path& path) override {
    faults_->meet(Call::remove, path);
    disk_.remove(path);
  }
  void create_directories(const std::filesystem::path& path) override {
    faults_->meet(Call::create_directories, path);
    disk_.create_directories(path);
  }

  std::optional<FileStatus> status(const std::filesystem::path& path) const override {
    faults_->meet(Call::status, path);
    if (faults_->hides(path)) return std::nullopt;
    return disk_.status(path);
  }
  std::unique_ptr<WritableFile> create(const std::filesystem::path& path) override {
    faults_->meet(Call::create, path);
    return std::make_unique<NewFile>(disk_.create(path), path, faults_);
  }
  void create_directory(const std::filesystem::path& path) override {
    faults_->meet(Call::create_directory, path);
    disk_.create_directory(path);
  }
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override {
    faults_->meet(Call::rename, to);
    disk_.rename(from, to);
  }
  void sync_directory(const std::filesystem::path& directory) override {
    faults_->meet(Call::sync_directory, directory);
    disk_.sync_directory(directory);
  }
  void set_modified(const std::filesystem::path& path, std::chrono::system_clock::time_point time) override {
    faults_->meet(Call::set_modified, path);
    disk_.set_modified(path, time);
  }
  std::uint64_t available_bytes(const std::filesystem::path& path) const override {
    faults_->meet(Call::available_bytes, path);
    return faults_->available().value_or(disk_.available_bytes(path));
  }
  std::unique_ptr<FileLock> lock(const std::filesystem::path& path) override {
    faults_->meet(Call::lock, path);
    return disk_.lock(path);
  }

 private:
  class Faults {
   public:
    void fail(Call call, int nth, int error, bool lasts) {
      std::lock_guard lock(mutex_);
      planned_[call] = {counts_[call] + nth, error, lasts};
    }
    void mend() {
      std::lock_guard lock(mutex_);
      planned_.clear();
      available_.reset();
    }
    void shorten_writes(std::size_t bytes) {
      std::lock_guard lock(mutex_);
      write_bytes_ = bytes;
    }
    std::size_t write_bytes() {
      std::lock_guard lock(mutex_);
      return write_bytes_;
    }
    void set_available(std::uint64_t bytes) {
      std::lock_guard lock(mutex_);
      available_ = bytes;
    }
    std::optional<std::uint64_t> available() {
      std::lock_guard lock(mutex_);
      return available_;
    }
    void hide(const std::filesystem::path& path) {
      std::lock_guard lock(mutex_);
      hidden_.insert(path);
    }
    bool hides(const std::filesystem::path& path) {
      std::lock_guard lock(mutex_);
      return hidden_.contains(path);
    }
    void meet_hidden(const std::filesystem::path& path) {
      if (hides(path)) throw std::system_error(ENOENT, std::generic_category(), path.string());
    }
    void cut_to(std::uint64_t bytes) {
      std::lock_guard lock(mutex_);
      cut_to_ = bytes;
    }
    int calls(Call call) {
      std::lock_guard lock(mutex_);
      return counts_[call];
    }
    void meet(Call call, const std::filesystem::path& path) {
      if (const int error = error_of(call)) {
        throw std::system_error(error, std::generic_category(), path.string() + ": injected fault");
      }
    }
    // Counts a call: what it is to fail with, 0 if it is not to.
    int error_of(Call call) {
      std::lock_guard lock(mutex_);
      const int count = ++counts_[call];
      const auto planned = planned_.find(call);
      if (planned == planned_.end()) return 0;
      const Fault& fault = planned->second;
      return count == fault.number || (fault.lasts && count > fault.number) ? fault.error : 0;
    }
    void meet_end(std::uint64_t end, const std::filesystem::path& path) {
      std::lock_guard lock(mutex_);
      if (end > cut_to_) throw std::system_error(EIO, std::generic_category(), path.string() + ": was cut");
    }

   private:
    struct Fault {
      int number, error;
      bool lasts;
    };

    std::mutex mutex_;
    std::map<Call, int> counts_;
    std::map<Call, Fault> planned_;
    std::size_t write_bytes_ = std::numeric_limits<std::size_t>::max();
    std::optional<std::uint64_t> available_;
    std::set<std::filesystem::path> hidden_;
    std::uint64_t cut_to_ = std::numeric_limits<std::uint64_t>::max();
  };

  class File : public RandomAccessFile {
   public:
    File(std::shared_ptr<const RandomAccessFile> file, std::shared_ptr<Faults> faults)
        : file_(std::move(file)), faults_(std::move(faults)) {}
    const std::filesystem::path& path() const override { return file_->path(); }
    std::uint64_t size_bytes() const override { return file_->size_bytes(); }
    void read(std::uint64_t offset, std::span<std::byte> out) const override {
      faults_->meet(Call::read, path());
      faults_->meet_end(offset + out.size(), path());
      file_->read(offset, out);
    }

   private:
    std::shared_ptr<const RandomAccessFile> file_;
    std::shared_ptr<Faults> faults_;
  };

  class NewFile : public WritableFile {
   public:
    NewFile(std::unique_ptr<WritableFile> file, std::filesystem::path path, std::shared_ptr<Faults> faults)
        : file_(std::move(file)), path_(std::move(path)), faults_(std::move(faults)) {}
    std::size_t write_some(std::span<const std::byte> bytes) override {
      const int error = faults_->error_of(Call::write);
      if (error == EINTR) return 0;
      if (error) throw std::system_error(error, std::generic_category(), path_.string() + ": injected fault");
      return file_->write_some(bytes.first(std::min(bytes.size(), faults_->write_bytes())));
    }
    void sync() override {
      faults_->meet(Call::sync, path_);
      file_->sync();
    }

   private:
    std::unique_ptr<WritableFile> file_;
    std::filesystem::path path_;
    std::shared_ptr<Faults> faults_;
  };

  FileSystem& disk_;
  std::shared_ptr<Faults> faults_ = std::make_shared<Faults>();
};

}  // namespace cortex

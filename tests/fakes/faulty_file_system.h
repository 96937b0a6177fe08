// A disk that fails when a test says so. It wraps another one; files opened through it count their reads here too.
// Any thread.
#pragma once

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
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
  enum class Call { open, read, list, replace, remove, create_directories };

  explicit FaultyFileSystem(FileSystem& disk) : disk_(disk) {}

  // The `nth` call of this kind from now on throws std::system_error; 1 is the next. One fault a kind.
  void fail(Call call, int nth, int error = EIO) { faults_->fail(call, nth, error); }
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

 private:
  class Faults {
   public:
    void fail(Call call, int nth, int error) {
      std::lock_guard lock(mutex_);
      planned_[call] = {counts_[call] + nth, error};
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
      std::lock_guard lock(mutex_);
      const int count = ++counts_[call];
      const auto planned = planned_.find(call);
      if (planned == planned_.end() || planned->second.first != count) return;
      throw std::system_error(planned->second.second, std::generic_category(), path.string() + ": injected fault");
    }
    void meet_end(std::uint64_t end, const std::filesystem::path& path) {
      std::lock_guard lock(mutex_);
      if (end > cut_to_) throw std::system_error(EIO, std::generic_category(), path.string() + ": was cut");
    }

   private:
    std::mutex mutex_;
    std::map<Call, int> counts_;
    std::map<Call, std::pair<int, int>> planned_;  // call -> (its number, errno)
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

  FileSystem& disk_;
  std::shared_ptr<Faults> faults_ = std::make_shared<Faults>();
};

}  // namespace cortex

// A disk in memory, read-only: what fuzz targets hand to code that opens files. Filled before use; one thread.
#pragma once

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/file_system.h"

namespace cortex {

class MemoryFile : public RandomAccessFile {
 public:
  MemoryFile(std::filesystem::path path, std::shared_ptr<const std::string> bytes)
      : path_(std::move(path)), bytes_(std::move(bytes)) {}

  const std::filesystem::path& path() const override { return path_; }
  std::uint64_t size_bytes() const override { return bytes_->size(); }
  void read(std::uint64_t offset, std::span<std::byte> out) const override {
    if (offset > bytes_->size() || out.size() > bytes_->size() - offset) {
      throw std::system_error(EIO, std::generic_category(), path_.string() + ": ends before the bytes asked for");
    }
    if (!out.empty()) std::memcpy(out.data(), bytes_->data() + offset, out.size());
  }

 private:
  std::filesystem::path path_;
  std::shared_ptr<const std::string> bytes_;
};

class MemoryFiles : public FileSystem {
 public:
  void add(const std::filesystem::path& path, std::shared_ptr<const std::string> bytes) {
    files_.insert_or_assign(path, std::move(bytes));
  }
  void add(const std::filesystem::path& path, std::string_view bytes) {
    add(path, std::make_shared<const std::string>(bytes));
  }

  bool is_file(const std::filesystem::path& path) const override { return files_.contains(path); }
  bool is_directory(const std::filesystem::path& path) const override {
    const auto next = files_.upper_bound(path / "");
    return next != files_.end() && next->first.string().starts_with((path / "").string());
  }
  bool exists(const std::filesystem::path& path) const override { return is_file(path) || is_directory(path); }
  std::filesystem::path canonical(const std::filesystem::path& path) const override {
    std::filesystem::path plain = path.lexically_normal();
    if (!exists(plain)) throw std::system_error(ENOENT, std::generic_category(), path.string());
    return plain;
  }
  std::vector<std::string> list(const std::filesystem::path& directory) const override {
    std::vector<std::string> names;
    for (const auto& [path, bytes] : files_) {
      if (path.parent_path() == directory) names.push_back(path.filename().string());
    }
    return names;
  }
  std::shared_ptr<const RandomAccessFile> open(const std::filesystem::path& path) const override {
    const auto found = files_.find(path);
    if (found == files_.end()) throw std::system_error(ENOENT, std::generic_category(), path.string());
    return std::make_shared<MemoryFile>(path, found->second);
  }

  void replace(const std::filesystem::path& path, std::span<const std::byte> /*content*/) override { refuse(path); }
  void remove(const std::filesystem::path& path) override { refuse(path); }
  void create_directories(const std::filesystem::path& path) override { refuse(path); }

  std::optional<FileStatus> status(const std::filesystem::path& path) const override {
    if (!exists(path)) return std::nullopt;
    FileStatus status;
    status.kind = is_file(path) ? FileStatus::Kind::file : FileStatus::Kind::directory;
    if (is_file(path)) status.size_bytes = files_.at(path)->size();
    return status;
  }
  std::unique_ptr<WritableFile> create(const std::filesystem::path& path) override { refuse(path); }
  void create_directory(const std::filesystem::path& path) override { refuse(path); }
  void rename(const std::filesystem::path& from, const std::filesystem::path& /*to*/) override { refuse(from); }
  void sync_directory(const std::filesystem::path& directory) override { refuse(directory); }
  void set_modified(const std::filesystem::path& path, std::chrono::system_clock::time_point /*time*/) override {
    refuse(path);
  }
  std::uint64_t available_bytes(const std::filesystem::path& /*path*/) const override { return 0; }
  std::unique_ptr<FileLock> lock(const std::filesystem::path& path) override { refuse(path); }

 private:
  [[noreturn]] static void refuse(const std::filesystem::path& path) {
    throw std::system_error(EROFS, std::generic_category(), path.string());
  }

  std::map<std::filesystem::path, std::shared_ptr<const std::string>> files_;
};

}  // namespace cortex

// A disk in memory that can lose power: what has not been synced by then is there in any part and any order, and the
// last write is torn at a sector. Names are as uncertain as bytes: what was created, renamed or removed in a directory
// that has not been synced has happened or has not. Any thread.
#pragma once

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/file_system.h"

namespace cortex {

class CrashingFileSystem : public FileSystem {
 public:
  using Path = std::filesystem::path;

  // What a machine finds that starts after a crash right now. This one goes on as it was.
  std::unique_ptr<CrashingFileSystem> after_crash(std::mt19937_64& random) const {
    std::lock_guard lock(mutex_);
    auto later = std::make_unique<CrashingFileSystem>();
    auto names = durable_names_;
    // Of the changes of names any may have come to the disk; those that did came in their order.
    for (const NameChange& change : name_changes_) {
      if (random() % 2) names[change.path] = change.node;
    }
    for (auto& [path, node] : names) {
      if (node) later->put(path, survivor_of(*node, random));
    }
    later->durable_names_ = later->names_;
    return later;
  }

  // Of all files that have a name.
  std::uint64_t bytes() const {
    std::lock_guard lock(mutex_);
    std::uint64_t bytes = 0;
    for (const auto& [path, node] : names_) bytes += node->content.size();
    return bytes;
  }

  bool is_file(const Path& path) const override { return kind_of(path) == FileStatus::Kind::file; }
  bool is_directory(const Path& path) const override { return kind_of(path) == FileStatus::Kind::directory; }
  bool exists(const Path& path) const override { return kind_of(path).has_value(); }
  Path canonical(const Path& path) const override { return path.lexically_normal(); }
  std::vector<std::string> list(const Path& directory) const override {
    std::lock_guard lock(mutex_);
    std::vector<std::string> names;
    for (const auto& [path, node] : names_) {
      if (path.parent_path() == directory) names.push_back(path.filename().string());
    }
    return names;
  }
  std::shared_ptr<const RandomAccessFile> open(const Path& path) const override {
    std::lock_guard lock(mutex_);
    return std::make_shared<OpenFile>(path, node_at(path)->content);
  }
  std::optional<FileStatus> status(const Path& path) const override {
    std::lock_guard lock(mutex_);
    const auto found = names_.find(path);
    if (found == names_.end()) return std::nullopt;
    FileStatus status;
    status.kind = found->second->directory ? FileStatus::Kind::directory : FileStatus::Kind::file;
    status.size_bytes = found->second->content.size();
    status.modified = found->second->modified;
    status.permissions = 0700;
    status.owned = true;
    return status;
  }

  std::unique_ptr<WritableFile> create(const Path& path) override {
    std::lock_guard lock(mutex_);
    return std::make_unique<NewFile>(*this, add(path, false));
  }
  void create_directory(const Path& path) override {
    std::lock_guard lock(mutex_);
    add(path, true);
  }
  void create_directories(const Path& path) override {
    for (Path so_far; const Path& part : path) {
      so_far /= part;
      if (!exists(so_far)) create_directory(so_far);
    }
  }
  void rename(const Path& from, const Path& to) override {
    std::lock_guard lock(mutex_);
    const auto node = node_at(from);
    change(to, node);
    change(from, nullptr);
  }
  void remove(const Path& path) override {
    std::lock_guard lock(mutex_);
    node_at(path);
    change(path, nullptr);
  }
  void sync_directory(const Path& directory) override {
    std::lock_guard lock(mutex_);
    std::erase_if(name_changes_, [&](const NameChange& change) {
      if (change.path.parent_path() != directory) return false;
      durable_names_[change.path] = change.node;
      return true;
    });
  }
  void replace(const Path& path, std::span<const std::byte> /*content*/) override { fail(ENOTSUP, path); }
  void set_modified(const Path& path, std::chrono::system_clock::time_point time) override {
    std::lock_guard lock(mutex_);
    node_at(path)->modified = time;
  }
  std::uint64_t available_bytes(const Path& /*path*/) const override { return std::uint64_t{1} << 40; }
  std::unique_ptr<FileLock> lock(const Path& path) override {
    std::lock_guard lock(mutex_);
    if (!names_.contains(path)) add(path, false);
    return std::make_unique<FileLock>();
  }

 private:
  static constexpr std::size_t kSectorBytes = 512;

  struct Write {
    std::size_t offset;
    std::vector<std::byte> bytes;
  };
  struct Node {
    bool directory = false;
    std::chrono::system_clock::time_point modified;
    std::vector<std::byte> content, durable;
    std::vector<Write> unsynced;
  };
  struct NameChange {
    Path path;
    std::shared_ptr<Node> node;  // null: the name is gone
  };

  class OpenFile : public RandomAccessFile {
   public:
    OpenFile(Path path, std::vector<std::byte> content) : path_(std::move(path)), content_(std::move(content)) {}
    const Path& path() const override { return path_; }
    std::uint64_t size_bytes() const override { return content_.size(); }
    void read(std::uint64_t offset, std::span<std::byte> out) const override {
      if (offset > content_.size() || out.size() > content_.size() - offset) fail(EIO, path_);
      if (!out.empty()) std::memcpy(out.data(), content_.data() + offset, out.size());
    }

   private:
    Path path_;
    std::vector<std::byte> content_;
  };

  class NewFile : public WritableFile {
   public:
    NewFile(CrashingFileSystem& disk, std::shared_ptr<Node> node) : disk_(disk), node_(std::move(node)) {}
    std::size_t write_some(std::span<const std::byte> bytes) override {
      std::lock_guard lock(disk_.mutex_);
      node_->unsynced.push_back({node_->content.size(), {bytes.begin(), bytes.end()}});
      node_->content.insert(node_->content.end(), bytes.begin(), bytes.end());
      return bytes.size();
    }
    void sync() override {
      std::lock_guard lock(disk_.mutex_);
      if (!disk_.syncs_) return;
      node_->durable = node_->content;
      node_->unsynced.clear();
    }

   private:
    CrashingFileSystem& disk_;
    std::shared_ptr<Node> node_;
  };

  [[noreturn]] static void fail(int error, const Path& path) {
    throw std::system_error(error, std::generic_category(), path.string());
  }

  std::optional<FileStatus::Kind> kind_of(const Path& path) const {
    const auto status = this->status(path);
    if (!status) return std::nullopt;
    return status->kind;
  }
  std::shared_ptr<Node> node_at(const Path& path) const {
    const auto found = names_.find(path);
    if (found == names_.end()) fail(ENOENT, path);
    return found->second;
  }
  std::shared_ptr<Node> add(const Path& path, bool directory) {
    if (names_.contains(path)) fail(EEXIST, path);
    if (path.has_parent_path() && path.parent_path() != path.root_path()) node_at(path.parent_path());
    auto node = std::make_shared<Node>();
    node->directory = directory;
    change(path, node);
    return node;
  }
  void change(const Path& path, const std::shared_ptr<Node>& node) {
    name_changes_.push_back({path, node});
    if (node) {
      names_[path] = node;
    } else {
      names_.erase(path);
    }
  }

  // The node as the disk has it: a random part of its writes, in random order, the last of them torn.
  static Node survivor_of(const Node& node, std::mt19937_64& random) {
    Node survivor;
    survivor.directory = node.directory;
    survivor.modified = node.modified;
    survivor.durable = node.durable;
    std::vector<Write> writes;
    std::copy_if(node.unsynced.begin(), node.unsynced.end(), std::back_inserter(writes),
                 [&](const Write&) { return random() % 3 > 0; });
    std::shuffle(writes.begin(), writes.end(), random);
    for (std::size_t i = 0; i < writes.size(); ++i) {
      auto& [offset, bytes] = writes[i];
      const std::size_t sectors = bytes.size() / kSectorBytes;
      if (i + 1 == writes.size() && random() % 2) bytes.resize(random() % (sectors + 1) * kSectorBytes);
      // What lies before a write that has come and one that has not is a hole.
      survivor.durable.resize(std::max(survivor.durable.size(), offset + bytes.size()));
      std::copy(bytes.begin(), bytes.end(), survivor.durable.begin() + static_cast<std::ptrdiff_t>(offset));
    }
    // The size may be known where bytes are not.
    if (!node.unsynced.empty() && random() % 3 == 0) survivor.durable.resize(node.content.size());
    survivor.content = survivor.durable;
    return survivor;
  }

  // With the directories above it, which a disk's own repair would make.
  void put(const Path& path, Node node) {
    for (Path above = path.parent_path(); above.has_relative_path(); above = above.parent_path()) {
      if (!names_.contains(above)) names_[above] = std::make_shared<Node>(Node{.directory = true});
    }
    names_[path] = std::make_shared<Node>(std::move(node));
  }

 public:
  // A disk that only says that it has synced.
  void lie_about_syncs() { syncs_ = false; }

 private:
  mutable std::mutex mutex_;
  bool syncs_ = true;
  std::map<Path, std::shared_ptr<Node>> names_, durable_names_;
  std::vector<NameChange> name_changes_;  // that no sync has followed
};

}  // namespace cortex

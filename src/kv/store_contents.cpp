#include "kv/store_contents.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "kv/block_reader.h"
#include "kv/store_scan.h"

namespace cortex {
namespace {

constexpr std::string_view kLock = "LOCK";

// As StoreFolder names what it puts away: twelve digits or more, the reason, and what the file was called.
bool is_quarantined_name(std::string_view name) {
  const auto dash = name.find('-');
  const auto last = name.rfind('-');
  if (dash == std::string_view::npos || dash < 12 || last == dash) return false;
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  return std::all_of(name.begin(), name.begin() + static_cast<std::ptrdiff_t>(dash), is_digit) &&
         block_file_key(name.substr(last + 1));
}

class Listing : public StoreScan::Visitor {
 public:
  Listing(const FileSystem& files, const std::filesystem::path& directory, StoreContents* contents)
      : files_(files), directory_(directory), contents_(*contents) {}

  void visit_temporary(const std::filesystem::path& path) override {
    const auto status = files_.status(path);
    if (!status) return;
    const bool ours = status->kind == FileStatus::Kind::file && block_file_key(path.filename().string());
    (ours ? contents_.unfinished : contents_.others).push_back({path, status->size_bytes});
  }

  void visit_quarantined(const std::string& name, const FileStatus& status) override {
    const bool ours = status.kind == FileStatus::Kind::file && is_quarantined_name(name);
    (ours ? contents_.quarantined : contents_.others).push_back({directory_ / "quarantine" / name, status.size_bytes});
  }

  void visit_run(const std::filesystem::path& path, const BlockKey& root, const BlockKey& last_key,
                 const FileStatus& status) override {
    RunFile run;
    run.path = path;
    run.root = root;
    run.last_key = last_key;
    run.bytes = status.size_bytes;
    run.used = status.modified;
    const auto opened = BlockReader::open(files_, path, root, last_key);
    if (const auto* fault = std::get_if<BlockFileFault>(&opened)) {
      if (*fault == BlockFileFault::missing) return;
      run.fault = *fault;
    } else if (path != directory_ / block_file_path(root, last_key)) {
      run.fault = BlockFileFault::name;
    } else {
      const BlockFileHeader& header = std::get<BlockReader>(opened).header();
      run.first_block = header.first_block;
      run.blocks = header.blocks();
    }
    contents_.runs.push_back(std::move(run));
  }

  void visit_other(const std::filesystem::path& path, const FileStatus& status) override {
    if (path != directory_ / kLock) contents_.others.push_back({path, status.size_bytes});
  }

 private:
  const FileSystem& files_;
  const std::filesystem::path& directory_;
  StoreContents& contents_;
};

}  // namespace

bool is_store(const FileSystem& files, const std::filesystem::path& directory) {
  const auto lock = files.status(directory / kLock);
  return lock && lock->kind == FileStatus::Kind::file;
}

StoreContents read_store_contents(const FileSystem& files, const std::filesystem::path& directory) {
  StoreContents contents;
  Listing listing(files, directory, &contents);
  StoreScan scan(files, directory);
  while (scan.step(listing)) {
  }
  std::sort(contents.runs.begin(), contents.runs.end(), [](const RunFile& a, const RunFile& b) {
    return std::pair(b.used, b.last_key) < std::pair(a.used, a.last_key);
  });
  return contents;
}

std::optional<BlockFileFault> verify_run(const FileSystem& files, const std::filesystem::path& directory,
                                         const RunFile& run, FunctionRef<std::uint64_t> read) {
  const auto opened = BlockReader::open(files, run.path, run.root, run.last_key);
  if (const auto* fault = std::get_if<BlockFileFault>(&opened)) {
    if (*fault == BlockFileFault::missing) return std::nullopt;
    return *fault;
  }
  if (run.path != directory / block_file_path(run.root, run.last_key)) return BlockFileFault::name;
  const BlockReader& file = std::get<BlockReader>(opened);
  std::vector<std::byte> block(file.header().block_bytes);
  read(file.header().offset_of(0));
  for (int i = 0; i < file.header().blocks(); ++i) {
    if (const auto fault = file.read(i, block)) return fault;
    read(file.header().offset_of(i + 1));
  }
  return std::nullopt;
}

std::unique_ptr<FileLock> lock_store(FileSystem& files, const std::filesystem::path& directory) {
  return files.lock(directory / kLock);
}

void remove_from_store(FileSystem& files, const std::filesystem::path& directory, const std::filesystem::path& path) {
  files.remove(path);
  // Of a run those of its root and of its key's first digits: the store's own folders stay.
  const std::filesystem::path top = (directory / kLock).parent_path();
  for (auto above = path.parent_path(); above.parent_path() != top; above = above.parent_path()) {
    if (!files.list(above).empty()) return;
    files.remove(above);
  }
}

}  // namespace cortex

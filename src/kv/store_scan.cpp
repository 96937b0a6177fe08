#include "kv/store_scan.h"

#include <system_error>
#include <utility>

#include "kv/block_file.h"

namespace cortex {
namespace {

constexpr int kNamesAStep = 32;

}  // namespace

StoreScan::StoreScan(const FileSystem& files, std::filesystem::path directory) : files_(files) {
  directories_.push_back({std::move(directory), Place::top, {}});
}

bool StoreScan::step(Visitor& visitor) {
  if (names_.empty()) {
    if (directories_.empty()) return false;
    current_ = std::move(directories_.back());
    directories_.pop_back();
    try {
      names_ = files_.list(current_.path);
    } catch (const std::system_error& error) {
      if (error.code() != std::errc::no_such_file_or_directory) throw;  // gone since its name was read
    }
    return true;
  }
  for (int i = 0; i < kNamesAStep && !names_.empty(); ++i) {
    const std::string name = std::move(names_.back());
    names_.pop_back();
    visit(visitor, name);
  }
  return true;
}

void StoreScan::visit(Visitor& visitor, const std::string& name) {
  const std::filesystem::path path = current_.path / name;
  const auto status = files_.status(path);
  if (!status) return;  // gone since it was listed
  if (status->kind == FileStatus::Kind::directory) {
    if (!descend(path, name)) directories_.push_back({path, Place::other, {}});
    return;
  }
  if (current_.place == Place::temporary) return visitor.visit_temporary(path);
  if (current_.place == Place::quarantine) return visitor.visit_quarantined(name, *status);
  if (current_.place == Place::shard && status->kind == FileStatus::Kind::file) {
    if (const auto key = block_file_key(name)) return visitor.visit_run(path, current_.root, *key, *status);
  }
  visitor.visit_other(path, *status);
}

// Whether the directory is a part of the store.
bool StoreScan::descend(const std::filesystem::path& path, const std::string& name) {
  switch (current_.place) {
    case Place::top:
      if (name == "tmp") directories_.push_back({path, Place::temporary, {}});
      if (name == "quarantine") directories_.push_back({path, Place::quarantine, {}});
      if (name == "v1") directories_.push_back({path, Place::version, {}});
      return name == "tmp" || name == "quarantine" || name == "v1";
    case Place::version: {
      const auto root = block_key_of_hex(name);
      if (root) directories_.push_back({path, Place::root, *root});
      return root.has_value();
    }
    case Place::root:
      if (name.size() == 2) directories_.push_back({path, Place::shard, current_.root});
      return name.size() == 2;
    default:
      return false;
  }
}

}  // namespace cortex

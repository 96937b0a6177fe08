// A folder of a model's files. What its names lead to must lie inside it, or, where it is a snapshot of a hub cache
// ("models--org--name/snapshots/..."), inside that cache entry; links to anywhere else are refused. Any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/file_system.h"

namespace cortex {

class ModelFolder {
 public:
  // `path` is a directory.
  ModelFolder(const FileSystem& files, const std::filesystem::path& path);

  // Whether something of this name is there, whatever it is.
  bool has(const std::string& name) const;
  // Throws Error invalid_path when it is absent, leads out of the folder, or is no regular file that can be opened.
  std::shared_ptr<const RandomAccessFile> open(const std::string& name) const;
  // The text of a file, absent when there is none. Throws as open, and Error `code` over the limit or when it can't be
  // read.
  std::optional<std::string> find_text(const std::string& name, std::uint64_t limit_bytes, ErrorCode code) const;
  // The name of a file whose weights are a pickle, if there is one; that of the model itself before others.
  std::optional<std::string> find_pickle() const;

 private:
  const FileSystem& files_;
  std::filesystem::path path_;
  std::filesystem::path root_;  // canonical
};

// Opens a regular file or throws Error invalid_path; `path` is followed wherever it leads.
std::shared_ptr<const RandomAccessFile> open_model_file(const FileSystem& files, const std::filesystem::path& path);

// Pickles run code when they are read.
bool is_pickle(const std::filesystem::path& path);

}  // namespace cortex

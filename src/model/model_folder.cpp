#include "model/model_folder.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <system_error>
#include <vector>

namespace cortex {
namespace {

namespace fs = std::filesystem;

fs::path resolve(const FileSystem& files, const fs::path& path) {
  try {
    return files.canonical(path);
  } catch (const std::system_error& error) {
    throw Error(ErrorCode::invalid_path, error.what());
  }
}

bool is_inside(const fs::path& path, const fs::path& root) {
  return std::mismatch(root.begin(), root.end(), path.begin(), path.end()).first == root.end();
}

// The cache entry this folder is a snapshot of, or the folder itself.
fs::path root_of(const fs::path& folder) {
  for (fs::path above = folder; above.has_relative_path(); above = above.parent_path()) {
    if (above.filename().string().starts_with("models--")) return above;
  }
  return folder;
}

}  // namespace

bool is_pickle(const fs::path& path) {
  constexpr std::array<std::string_view, 7> kExtensions = {".bin", ".pt",     ".pth",   ".ckpt",
                                                           ".pkl", ".pickle", ".joblib"};
  const std::string extension = path.extension().string();
  return std::find(kExtensions.begin(), kExtensions.end(), extension) != kExtensions.end();
}

std::shared_ptr<const RandomAccessFile> open_model_file(const FileSystem& files, const fs::path& path) {
  try {
    return files.open(path);
  } catch (const std::system_error& error) {
    if (error.code() == std::errc::no_such_file_or_directory) {
      throw Error(ErrorCode::invalid_path, path.string() + ": no such file");
    }
    throw Error(ErrorCode::invalid_path, error.what());
  }
}

ModelFolder::ModelFolder(const FileSystem& files, const fs::path& path)
    : files_(files), path_(path), root_(root_of(resolve(files, path))) {}

bool ModelFolder::has(const std::string& name) const { return files_.exists(path_ / name); }

std::shared_ptr<const RandomAccessFile> ModelFolder::open(const std::string& name) const {
  const fs::path real = resolve(files_, path_ / name);
  if (!is_inside(real, root_)) {
    throw Error(ErrorCode::invalid_path, fmt::format("{}: leads to {}, out of the model's folder {}",
                                                     (path_ / name).string(), real.string(), root_.string()));
  }
  return open_model_file(files_, real);
}

std::optional<std::string> ModelFolder::find_text(const std::string& name, std::uint64_t limit_bytes,
                                                  ErrorCode code) const {
  if (!has(name)) return std::nullopt;
  const auto file = open(name);
  if (file->size_bytes() > limit_bytes) {
    throw Error(code, fmt::format("{}: {} bytes exceed the limit of {}", name, file->size_bytes(), limit_bytes));
  }
  std::string text(file->size_bytes(), '\0');
  try {
    file->read(0, std::as_writable_bytes(std::span(text)));
  } catch (const std::system_error& error) {
    throw Error(code, error.what());
  }
  return text;
}

std::optional<std::string> ModelFolder::find_pickle() const {
  std::vector<std::string> names;
  try {
    names = files_.list(path_);
  } catch (const std::system_error& error) {
    throw Error(ErrorCode::invalid_path, error.what());
  }
  const auto is_model = [](const std::string& name) { return name.starts_with("pytorch_model") && is_pickle(name); };
  auto found = std::find_if(names.begin(), names.end(), is_model);
  if (found == names.end()) found = std::find_if(names.begin(), names.end(), is_pickle);
  return found == names.end() ? std::nullopt : std::optional(*found);
}

}  // namespace cortex

#include "model/fingerprint.h"

#include <fmt/core.h>

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

namespace cortex {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{4} << 20;

class Fingerprint {
 public:
  Fingerprint() : state_(XXH3_createState(), XXH3_freeState) {
    if (!state_) throw std::bad_alloc();
    XXH3_128bits_reset(state_.get());
  }

  void add(const RandomAccessFile& file) {
    std::vector<std::byte> piece(std::min<std::uint64_t>(kPieceBytes, file.size_bytes()));
    for (std::uint64_t at = 0; at < file.size_bytes(); at += piece.size()) {
      const auto bytes = std::span(piece).first(std::min<std::uint64_t>(piece.size(), file.size_bytes() - at));
      file.read(at, bytes);
      XXH3_128bits_update(state_.get(), bytes.data(), bytes.size());
    }
  }
  void add(std::string_view text) { XXH3_128bits_update(state_.get(), text.data(), text.size()); }

  std::string text() const {
    const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
    return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
  }

 private:
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_;
};

bool counts(const std::filesystem::path& name) {
  constexpr std::array<std::string_view, 5> kExtensions = {".safetensors", ".json", ".model", ".jinja", ".gguf"};
  return std::ranges::find(kExtensions, name.extension().string()) != kExtensions.end();
}

}  // namespace

std::string fingerprint_of(const FileSystem& files, const std::filesystem::path& model) {
  Fingerprint fingerprint;
  if (!files.is_directory(model)) {
    fingerprint.add(*files.open(model));
    return fingerprint.text();
  }
  for (const std::string& name : files.list(model)) {
    if (!counts(name) || !files.is_file(model / name)) continue;
    const auto file = files.open(model / name);
    fingerprint.add(fmt::format("{}:{}:{}:", name.size(), name, file->size_bytes()));
    fingerprint.add(*file);
  }
  return fingerprint.text();
}

}  // namespace cortex

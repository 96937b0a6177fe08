#include "backend/cpu/packed_layers.h"

#include <fmt/core.h>
#include <unistd.h>
#include <xxhash.h>

#include <chrono>
#include <cstring>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/json_writer.h"

namespace cortex {
namespace {

constexpr std::string_view kMagic = "cortexpw";
// Goes up whenever the same weights would lie in memory otherwise.
constexpr std::uint32_t kVersion = 1;
constexpr std::uint64_t kAlignBytes = 4096;
// A part that is older belongs to nobody.
constexpr std::chrono::hours kPartAge{1};

template <typename Integer>
void append(std::vector<std::byte>& bytes, Integer value) {
  for (std::size_t i = 0; i < sizeof value; ++i) bytes.push_back(static_cast<std::byte>(value >> (8 * i) & 0xff));
}

std::uint64_t load64(std::span<const std::byte> from, std::size_t at) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof value; ++i) value |= std::to_integer<std::uint64_t>(from[at + i]) << (8 * i);
  return value;
}

std::uint64_t hash_of(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

std::uint64_t aligned(std::uint64_t bytes) { return (bytes + kAlignBytes - 1) / kAlignBytes * kAlignBytes; }

// Clients read it, so it says no folder.
[[noreturn]] void fail(const std::filesystem::path& path, std::string_view why) {
  throw Error(ErrorCode::weights_io_error,
              fmt::format("packed weights {}: {}", json_string(path.filename().string()), why));
}

// What `io` throws as an Error.
template <typename Io>
auto guarded(const std::filesystem::path& path, const Io& io) {
  try {
    return io();
  } catch (const std::system_error& error) {
    fail(path, error.code().message());
  }
}

}  // namespace

PackedLayers::PackedLayers(FileSystem& files, std::filesystem::path folder, const std::string& content,
                           std::vector<std::uint64_t> layer_bytes)
    : files_(&files), folder_(std::move(folder)), layer_bytes_(std::move(layer_bytes)) {
  CORTEX_CHECK(!folder_.empty() && !content.empty());
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(content.data(), content.size()));
  std::memcpy(identity_.data(), canonical.digest, identity_.size());
  std::string name;
  for (const std::byte byte : identity_) name += fmt::format("{:02x}", std::to_integer<int>(byte));
  path_ = folder_ / (name + ".layers");
  offsets_ = {0};
  for (const std::uint64_t bytes : layer_bytes_) offsets_.push_back(offsets_.back() + aligned(bytes));
}

std::vector<std::byte> PackedLayers::trailer(std::span<const std::uint64_t> hashes) const {
  std::vector<std::byte> bytes;
  for (const char letter : kMagic) bytes.push_back(static_cast<std::byte>(letter));
  append(bytes, kVersion);
  append(bytes, static_cast<std::uint32_t>(layer_bytes_.size()));
  bytes.insert(bytes.end(), identity_.begin(), identity_.end());
  for (std::size_t layer = 0; layer < layer_bytes_.size(); ++layer) {
    append(bytes, layer_bytes_[layer]);
    append(bytes, hashes[layer]);
  }
  append(bytes, hash_of(bytes));
  return bytes;
}

// The trailer must be what this model's would be with the hashes that it has.
void PackedLayers::open() {
  std::vector<std::uint64_t> hashes(layer_bytes_.size());
  std::vector<std::byte> stored(trailer(hashes).size());
  const auto file = guarded(path_, [&] { return files_->open(path_); });
  const std::uint64_t expected = offsets_.back() + stored.size();
  if (file->size_bytes() != expected) fail(path_, fmt::format("{} bytes, not {}", file->size_bytes(), expected));
  guarded(path_, [&] { file->read(offsets_.back(), stored); });
  const std::size_t table = stored.size() - sizeof(std::uint64_t) * (1 + 2 * hashes.size());
  for (std::size_t layer = 0; layer < hashes.size(); ++layer) {
    hashes[layer] = load64(stored, table + sizeof(std::uint64_t) * (1 + 2 * layer));
  }
  if (stored != trailer(hashes)) fail(path_, "is damaged, or of another version");
  file_ = file;
  hashes_ = std::move(hashes);
}

void PackedLayers::read(int layer, std::span<std::byte> out) {
  const auto index = static_cast<std::size_t>(layer);
  CORTEX_CHECK(out.size() == layer_bytes_[index]);
  if (!file_) open();
  guarded(path_, [&] { file_->read(offsets_[index], out); });
  if (hash_of(out) != hashes_[index]) fail(path_, fmt::format("layer {} is damaged", layer));
}

PackedLayersWriter::PackedLayersWriter(const PackedLayers& packed)
    : packed_(packed), part_(packed.path_.string() + fmt::format(".{}.part", ::getpid())) {
  FileSystem& files = *packed_.files_;
  guarded(packed_.path_, [&] {
    files.create_directories(packed_.folder_);
    for (const std::string& name : files.list(packed_.folder_)) {
      const auto status = files.status(packed_.folder_ / name);
      const bool is_part = name.starts_with(packed_.path_.filename().string() + ".") && name.ends_with(".part");
      if (!is_part || !status) continue;
      const bool is_old = status->modified < std::chrono::system_clock::now() - kPartAge;
      if (is_old || packed_.folder_ / name == part_) files.remove(packed_.folder_ / name);
    }
    file_ = files.create(part_);
  });
}

PackedLayersWriter::~PackedLayersWriter() {
  if (finished_) return;
  file_.reset();
  try {
    packed_.files_->remove(part_);
  } catch (const std::system_error&) {  // NOLINT(bugprone-empty-catch): a later writer removes it
  }
}

void PackedLayersWriter::write(std::span<const std::byte> bytes) {
  guarded(part_, [&] { file_->write(bytes); });
}

void PackedLayersWriter::add(std::span<const std::byte> bytes) {
  CORTEX_CHECK(bytes.size() == packed_.layer_bytes_[hashes_.size()]);
  hashes_.push_back(hash_of(bytes));
  write(bytes);
  write(std::vector<std::byte>(aligned(bytes.size()) - bytes.size()));
}

void PackedLayersWriter::finish() {
  CORTEX_CHECK(hashes_.size() == packed_.layer_bytes_.size());
  write(packed_.trailer(hashes_));
  guarded(part_, [&] {
    file_->sync();
    file_.reset();
    packed_.files_->rename(part_, packed_.path_);
    packed_.files_->sync_directory(packed_.folder_);
  });
  finished_ = true;
}

}  // namespace cortex

// A decoder's layers as they lie in memory, in one file: written once, then read a layer at a time. The file is named
// after what it holds and checked like a stranger's: size, trailer, and every layer's bytes each time that they are
// read, so that what is read is what was written, or an error. Whole files come by rename. A value; one thread at a
// time.
//
//   layers   each from a multiple of 4096 on
//   trailer  8 bytes "cortexpw"; version (4), layers (4); XXH3 (128 bits) of what the file holds: the model's
//            fingerprint and how it is packed (16); of each layer its bytes (8) and their XXH3 (64 bits) (8); XXH3
//            (64 bits) of the trailer up to here (8)
//
// Numbers are little-endian.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file_system.h"

namespace cortex {

class PackedLayers {
 public:
  // The file in `folder` that holds `content` in layers of these sizes; nothing is opened yet.
  PackedLayers(FileSystem& files, std::filesystem::path folder, const std::string& content,
               std::vector<std::uint64_t> layer_bytes);

  // Reads a layer into out [its bytes], from the file that is opened at the first call and after close(). Throws Error
  // weights_io_error when there is no such file or it is not what it should be.
  void read(int layer, std::span<std::byte> out);
  void close() { file_.reset(); }

  const std::filesystem::path& path() const { return path_; }

 private:
  friend class PackedLayersWriter;

  std::vector<std::byte> trailer(std::span<const std::uint64_t> hashes) const;
  void open();

  FileSystem* files_;
  std::filesystem::path folder_, path_;
  std::array<std::byte, 16> identity_;
  std::vector<std::uint64_t> layer_bytes_;
  std::vector<std::uint64_t> offsets_;  // [layers + 1]; the last is the trailer's
  std::shared_ptr<const RandomAccessFile> file_;
  std::vector<std::uint64_t> hashes_;  // of the open file
};

// Makes the file anew.
class PackedLayersWriter {
 public:
  // Throws Error weights_io_error, as do the others.
  explicit PackedLayersWriter(const PackedLayers& packed);
  PackedLayersWriter(const PackedLayersWriter&) = delete;
  PackedLayersWriter& operator=(const PackedLayersWriter&) = delete;
  // Removes what is not finished.
  ~PackedLayersWriter();

  // The next layer.
  void add(std::span<const std::byte> bytes);
  // All layers are there: the file takes its name.
  void finish();

 private:
  void write(std::span<const std::byte> bytes);

  const PackedLayers& packed_;
  std::filesystem::path part_;
  std::unique_ptr<WritableFile> file_;
  std::uint64_t written_ = 0;
  std::vector<std::uint64_t> hashes_;
  bool finished_ = false;
};

}  // namespace cortex

// A file on its way: its bytes so far are in PATH.incomplete, which a later process goes on with, and it appears under
// its name only when it is whole. One owner; one thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/descriptor.h"
#include "cli/fetch/digest.h"

namespace cortex {

class PartFile {
 public:
  // Opens or makes PATH.incomplete and reads what it holds into the checksum. `checksum` is SHA-256 or git's SHA-1 of
  // `size_bytes` bytes, in hexadecimal. Throws Error weights_io_error, here and below, when the disk is full or fails.
  PartFile(std::filesystem::path path, std::uint64_t size_bytes, std::string checksum);

  std::uint64_t here_bytes() const { return here_bytes_; }
  bool is_whole() const { return here_bytes_ == size_bytes_; }

  // Throws Error invalid_weights, and leaves nothing, when there are more than there should be.
  void append(std::string_view bytes);
  void start_over();
  // Checks, syncs and renames. Throws Error invalid_weights, and leaves nothing, for the wrong checksum.
  void finish();

 private:
  void read_part();
  void drop();
  [[noreturn]] void fail(int error) const;

  std::filesystem::path path_, part_;
  std::uint64_t size_bytes_;
  std::string checksum_;
  Descriptor descriptor_;
  Digest digest_;
  std::uint64_t here_bytes_ = 0;
};

}  // namespace cortex

// A checksum that is computed as bytes come: SHA-256, or the SHA-1 that git names a file of a known size by. One owner;
// one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace cortex {

class Digest {
 public:
  static Digest sha256();
  static Digest git_blob(std::uint64_t size_bytes);

  void add(std::span<const std::byte> bytes);
  // Lower-case hexadecimal. The digest is used up.
  std::string finish();

 private:
  struct Context;
  struct Delete {
    void operator()(Context* context) const;
  };
  explicit Digest(const char* algorithm);

  std::unique_ptr<Context, Delete> context_;
};

// What a checksum's text says of its algorithm: 64 lower-case hexadecimal digits are SHA-256, 40 git's SHA-1.
bool is_sha256(std::string_view text);
bool is_git_sha1(std::string_view text);

}  // namespace cortex

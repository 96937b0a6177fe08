// Beast's parser, fed by hand with the bytes that the gate has let through: the second opinion on the header block, and
// the reader of bodies, by length or by chunks. Trailers are read and dropped. One owner, one thread; no sockets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace cortex {

class BodyReader {
 public:
  explicit BodyReader(std::uint64_t limit_bytes);
  ~BodyReader();
  BodyReader(const BodyReader&) = delete;
  BodyReader& operator=(const BodyReader&) = delete;

  // Returns how many of `bytes`, the first of which begin with the header block, were used; the rest is to come again
  // with more behind it. Throws Error invalid_header, invalid_framing or request_too_large, the latter
  // before the body or the chunk that would be too large is read.
  std::size_t put(std::string_view bytes);
  bool begun() const;  // the size of the first chunk has been read
  bool done() const;
  std::uint64_t body_bytes() const;  // so far
  std::string take();

 private:
  struct Parser;
  std::unique_ptr<Parser> parser_;
};

}  // namespace cortex

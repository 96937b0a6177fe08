// Beast's parser, fed by hand with the bytes that the gate has let through: the second opinion on the header block, and
// the reader of bodies, by length or by chunks. Trailers are read and dropped. One owner, one thread; no sockets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace cortex {

class BodyReader {
 public:
  // `reserve` is asked before the body of a chunk is read, with the chunk's bytes; it may throw an Error.
  BodyReader(std::uint64_t limit_bytes, std::function<void(std::uint64_t)> reserve);
  ~BodyReader();
  BodyReader(const BodyReader&) = delete;
  BodyReader& operator=(const BodyReader&) = delete;

  // Returns how many of `bytes`, the first of which begin with the header block, were used; the rest is to come again
  // with more behind it. Throws Error invalid_header, invalid_framing, request_too_large, or what `reserve` throws.
  std::size_t put(std::string_view bytes);
  bool begun() const;  // the size of the first chunk has been read
  bool done() const;
  std::string take();

 private:
  struct Parser;
  std::unique_ptr<Parser> parser_;
};

}  // namespace cortex

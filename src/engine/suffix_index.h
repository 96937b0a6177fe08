// Finds where the last tokens of a text have stood before, in itself or in another text: the longest such place, of
// equally long ones the latest. Places are kept as chains of equal hashes of two tokens (as LZ77 compressors do:
// Deutsch 1996, RFC 1951, section 4), and checked by going back token by token. To read a token costs tens of
// nanoseconds, to find a place a microsecond or two. The texts are the caller's; one index a text, which only grows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "backend/step_plan.h"

namespace cortex {

inline constexpr TokenId kNoToken = -1;  // in a text: what stands before it and after it are different texts

// A place in a text behind `matched` tokens that are alike: text[next] is what came next there.
struct SuffixMatch {
  std::size_t next = 0;
  int matched = 0;
};

// How many tokens before text[next] are the last ones of `context`, at most kLongestMatch.
inline constexpr int kLongestMatch = 64;
int matched_tokens(std::span<const TokenId> text, std::size_t next, std::span<const TokenId> context);

class SuffixIndex {
 public:
  static constexpr std::size_t kShortest = 2;  // match

  // Reads on in the text, at most so many tokens.
  void read(std::span<const TokenId> text, std::size_t most);
  // `text` as it was read. Only places that have a next token, which is in it.
  std::optional<SuffixMatch> find(std::span<const TokenId> text, std::span<const TokenId> context) const;

  std::size_t bytes() const { return (before_.capacity() + latest_.capacity()) * sizeof(Place); }

 private:
  using Place = std::uint32_t;  // the index of a token behind two others; 0: none

  std::size_t slot(std::span<const TokenId> two) const;
  void add(std::span<const TokenId> text, std::size_t place);

  std::size_t read_ = 0;
  std::vector<Place> before_;  // [read_ + 1] by place: the one before with its hash
  std::vector<Place> latest_;  // [a power of two] by hash
};

}  // namespace cortex

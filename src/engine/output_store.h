// What sequences have said lately, with the ends of their prompts: what is asked again is often answered alike. Bounded
// in bytes: outputs are kept in two halves, and when the newer one is full the older one goes. Each salt has texts of
// its own, and none is ever looked up in another's. Owned by a drafter, the engine thread only.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/suffix_index.h"

namespace cortex {

class OutputStore {
 public:
  explicit OutputStore(std::size_t bytes) : half_bytes_(bytes / 2) {}

  // `tokens` as one text; one that is larger than half the store is left out.
  void add(std::string_view salt, std::span<const TokenId> tokens);

  struct Match {
    std::span<const TokenId> next;  // what came behind the match, to its text's end; valid until add()
    int matched = 0;
  };
  // The longest match, of equally long ones the latest.
  std::optional<Match> find(std::string_view salt, std::span<const TokenId> context) const;

  std::size_t bytes() const { return newer_.bytes + older_.bytes; }

 private:
  struct Texts {
    std::vector<TokenId> tokens;  // one text behind another, kNoToken between them
    SuffixIndex index;
  };
  struct Half {
    std::map<std::string, Texts, std::less<>> texts;  // by salt
    std::size_t bytes = 0;
  };

  static std::optional<Match> find_in(const Half& half, std::string_view salt, std::span<const TokenId> context);

  const std::size_t half_bytes_;
  Half newer_, older_;
};

}  // namespace cortex

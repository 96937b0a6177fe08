#include "engine/suffix_index.h"

#include <algorithm>
#include <bit>

namespace cortex {
namespace {

constexpr int kMostLooked = 64;  // places of a chain
constexpr std::size_t kFewestSlots = 64;

}  // namespace

int matched_tokens(std::span<const TokenId> text, std::size_t next, std::span<const TokenId> context) {
  const std::size_t most = std::min({next, context.size(), static_cast<std::size_t>(kLongestMatch)});
  std::size_t matched = 0;
  while (matched < most && text[next - 1 - matched] == context[context.size() - 1 - matched]) ++matched;
  return static_cast<int>(matched);
}

void SuffixIndex::read(std::span<const TokenId> text, std::size_t most) {
  const std::size_t end = read_ + std::min(text.size() - read_, most);
  before_.resize(end + 1);
  if (end > latest_.size()) {
    latest_.assign(std::max(std::bit_ceil(2 * text.size()), kFewestSlots), 0);
    for (std::size_t place = kShortest; place <= read_; ++place) add(text, place);
  }
  for (std::size_t place = std::max(read_ + 1, kShortest); place <= end; ++place) add(text, place);
  read_ = end;
}

std::optional<SuffixMatch> SuffixIndex::find(std::span<const TokenId> text, std::span<const TokenId> context) const {
  if (latest_.empty() || context.size() < kShortest) return std::nullopt;
  SuffixMatch best;
  int looked = 0;
  for (Place place = latest_[slot(context.last(kShortest))]; place != 0 && looked < kMostLooked; ++looked) {
    if (place < text.size() && text[place] != kNoToken) {
      const int matched = matched_tokens(text, place, context);
      if (matched > best.matched) best = {place, matched};
      if (matched == kLongestMatch) break;
    }
    place = before_[place];
  }
  if (best.matched < static_cast<int>(kShortest)) return std::nullopt;
  return best;
}

std::size_t SuffixIndex::slot(std::span<const TokenId> two) const {
  const std::uint64_t both =
      static_cast<std::uint64_t>(static_cast<std::uint32_t>(two[0])) << 32 | static_cast<std::uint32_t>(two[1]);
  return static_cast<std::size_t>(both * 0x9e3779b97f4a7c15u >> 32) & (latest_.size() - 1);  // Fibonacci hashing
}

void SuffixIndex::add(std::span<const TokenId> text, std::size_t place) {
  Place& latest = latest_[slot(text.subspan(place - kShortest, kShortest))];
  before_[place] = latest;
  latest = static_cast<Place>(place);
}

}  // namespace cortex

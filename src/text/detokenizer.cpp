#include "text/detokenizer.h"

#include <algorithm>
#include <utility>

namespace cortex {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// How a character goes on after its first byte: how many bytes it has (0 if none begins so), and what the second may
// be. The narrow bounds keep out overlong forms, surrogates and what is past U+10FFFF.
// Source: The Unicode Standard, table 3-7.
struct Lead {
  int size;
  unsigned char least = 0x80;
  unsigned char most = 0xBF;
};

Lead lead_of(unsigned char byte) {
  if (byte < 0x80) return {1};
  if (byte < 0xC2) return {0};
  if (byte < 0xE0) return {2};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

// Takes the first character, or the longest beginning of one, off `bytes` (not empty) and appends it to `text`, as
// U+FFFD if it is broken. False, taking nothing, when more bytes could complete it.
bool take_character(std::string_view* bytes, std::string* text) {
  const Lead lead = lead_of(static_cast<unsigned char>(bytes->front()));
  std::size_t good = 1;
  const auto size = static_cast<std::size_t>(lead.size);
  for (; good < size && good < bytes->size(); ++good) {
    const auto byte = static_cast<unsigned char>((*bytes)[good]);
    const bool fits = good == 1 ? byte >= lead.least && byte <= lead.most : (byte & 0xC0) == 0x80;
    if (!fits) break;
  }
  if (good < size && good == bytes->size()) return false;
  *text += good == size ? bytes->substr(0, good) : kReplacement;
  bytes->remove_prefix(good);
  return true;
}

}  // namespace

Detokenizer::Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special, std::vector<std::int32_t> shown)
    : tokenizer_(std::move(tokenizer)), skip_special_(skip_special), shown_(std::move(shown)) {}

std::string Detokenizer::push(std::int32_t id) {
  const auto is_hidden = [&] { return std::find(shown_.begin(), shown_.end(), id) == shown_.end(); };
  if (skip_special_ && tokenizer_->is_special(id) && is_hidden()) return {};
  std::string_view added = tokenizer_->token_bytes(id);
  if (added.empty()) return {};
  if (std::exchange(at_start_, false) && tokenizer_->drops_first_space() && added.front() == ' ') {
    added.remove_prefix(1);
  }
  held_ += added;
  std::string text;
  std::string_view rest = held_;
  while (!rest.empty() && take_character(&rest, &text)) {
  }
  held_.erase(0, held_.size() - rest.size());
  return text;
}

std::string Detokenizer::finish() {
  return std::exchange(held_, {}).empty() ? std::string() : std::string(kReplacement);
}

}  // namespace cortex

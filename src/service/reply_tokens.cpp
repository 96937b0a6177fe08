#include "service/reply_tokens.h"

#include <algorithm>
#include <array>
#include <functional>
#include <iterator>
#include <utility>

namespace cortex {
namespace {

// What an entry takes beside its key's and ids' own bytes: two copies of the key, nodes of a list and of a map.
constexpr std::size_t kEntryBytes = 2 * sizeof(DialogueKey) + sizeof(SampledText) + 128;

std::size_t combine(std::size_t hash, std::string_view text) {
  const std::hash<std::string_view> hash_of;
  const std::array<std::size_t, 2> both{hash, hash_of(text)};
  return hash_of({reinterpret_cast<const char*>(both.data()), sizeof(both)});
}

}  // namespace

DialogueKey::DialogueKey(std::string model, std::string salt, std::string owner)
    : model_(std::move(model)), salt_(std::move(salt)), owner_(std::move(owner)) {
  for (const auto* name : {&model_, &salt_, &owner_}) messages_ = combine(messages_, *name);
}

void DialogueKey::add(std::string_view role, std::string_view content) {
  messages_ = combine(combine(messages_, role), content);
}

std::size_t DialogueKey::bytes() const { return model_.size() + salt_.size() + owner_.size(); }

std::size_t ReplyTokens::Entry::bytes() const {
  return kEntryBytes + 2 * dialogue.bytes() + reply.ids.size() * sizeof(TokenId);
}

void ReplyTokens::remember(const DialogueKey& dialogue, SampledText reply) {
  reply.ids.shrink_to_fit();
  std::lock_guard lock(mutex_);
  const auto known = by_dialogue_.find(dialogue);
  if (known != by_dialogue_.end()) forget(known->second);
  entries_.push_front({dialogue, std::move(reply)});
  by_dialogue_.emplace(dialogue, entries_.begin());
  bytes_ += entries_.front().bytes();
  while (bytes_ > limit_bytes_) forget(std::prev(entries_.end()));
}

std::optional<SampledText> ReplyTokens::find(const DialogueKey& dialogue) {
  std::lock_guard lock(mutex_);
  const auto known = by_dialogue_.find(dialogue);
  if (known == by_dialogue_.end()) return std::nullopt;
  entries_.splice(entries_.begin(), entries_, known->second);
  return entries_.front().reply;
}

std::size_t ReplyTokens::bytes() const {
  std::lock_guard lock(mutex_);
  return bytes_;
}

void ReplyTokens::forget(Entries::iterator entry) {
  bytes_ -= entry->bytes();
  by_dialogue_.erase(entry->dialogue);
  entries_.erase(entry);
}

std::vector<TokenId> ids_within(const Tokenizer& tokenizer, std::span<const TokenId> ids, std::string_view text,
                                bool begins_text, std::span<const TokenId> shown) {
  std::vector<TokenId> within;
  for (const TokenId id : ids) {
    std::string_view bytes = tokenizer.token_bytes(id);
    const bool may_drop_space = begins_text && within.empty() && tokenizer.drops_first_space();
    if (may_drop_space && bytes.starts_with(' ')) bytes.remove_prefix(1);
    const bool is_hidden = tokenizer.is_special(id) && std::find(shown.begin(), shown.end(), id) == shown.end();
    if (is_hidden || !text.starts_with(bytes)) break;
    text.remove_prefix(bytes.size());
    within.push_back(id);
  }
  return within;
}

}  // namespace cortex

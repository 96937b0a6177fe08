// The token ids of replies, remembered until their text comes back in a later turn's history: then the turn's prompt
// begins with the very ids that the KV cache knows. Bounded in bytes; what was used longest ago is forgotten first, and
// all with the process. Owned by the front; any thread.
//
// Invariants: (1) a reply is found after the same messages, of the same model, salt and owner, and nowhere else;
// (2) what is found is at most what its text says: the ids spell a beginning of it, as the model wrote it, and hold no
// special token but those that this shows.
#pragma once

#include <cstddef>
#include <list>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/engine.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace cortex {

// The messages of a dialogue up to some point, and whose it is.
class DialogueKey {
 public:
  DialogueKey() = default;
  DialogueKey(std::string model, std::string salt, std::string owner);

  void add(std::string_view role, std::string_view content);

  std::size_t hash() const { return messages_; }
  // Bytes that it takes.
  std::size_t bytes() const;
  bool operator==(const DialogueKey&) const = default;

 private:
  std::string model_, salt_, owner_;
  // Messages whose hashes meet cost a cache hit, no more: ids stand for a text only where they spell it.
  std::size_t messages_ = 0;
};

class ReplyTokens {
 public:
  explicit ReplyTokens(std::size_t limit_bytes = std::size_t{16} << 20) : limit_bytes_(limit_bytes) {}

  // `dialogue` ends with the reply.
  void remember(const DialogueKey& dialogue, SampledText reply);
  std::optional<SampledText> find(const DialogueKey& dialogue);

  std::size_t bytes() const;

 private:
  struct Entry {
    DialogueKey dialogue;
    SampledText reply;

    std::size_t bytes() const;
  };
  struct Hash {
    std::size_t operator()(const DialogueKey& dialogue) const { return dialogue.hash(); }
  };
  using Entries = std::list<Entry>;
  void forget(Entries::iterator entry);

  const std::size_t limit_bytes_;
  mutable std::mutex mutex_;
  Entries entries_;  // the latest use first
  std::unordered_map<DialogueKey, Entries::iterator, Hash> by_dialogue_;
  std::size_t bytes_ = 0;
};

// As many of the ids as spell a beginning of `text`, which a Detokenizer made of them; it has dropped a first space
// where the text begins with them. They end before a special token that is not `shown`, before bytes that are no
// character, and where a stop string cut the text.
std::vector<TokenId> ids_within(const Tokenizer& tokenizer, std::span<const TokenId> ids, std::string_view text,
                                bool begins_text, std::span<const TokenId> shown = {});

}  // namespace cortex

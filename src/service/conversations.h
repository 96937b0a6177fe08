// Dialogues that outlive calls and restarts: one SQLite file in WAL mode. A turn is taken, its messages and the reply
// are committed together or not at all. Owned by the front; any thread (one mutex around the file).
//
// Invariants: (1) a conversation has at most one open turn in a server; (2) what a turn does not commit leaves no
// trace; (3) another owner's conversation is indistinguishable from none; (4) above the limit those with a single turn
// go first, then the least recently used; (5) one with an open turn is neither dropped nor does it expire.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/clock.h"
#include "service/database.h"
#include "service/tool_call.h"
#include "text/chat_template.h"

namespace cortex {

struct Message {
  std::string role;  // "system", "user", "assistant", "tool"
  std::string content;
  std::optional<SampledText> sampled = std::nullopt;  // of a reply: what it was made of
  std::string reasoning = {};                         // of a reply, beside its content
  std::vector<ToolCall> tool_calls = {};              // of a reply
  std::string tool_call_id = {};                      // of a tool's: the call that it answers

  // The same to who reads it.
  bool operator==(const Message& other) const {
    return role == other.role && content == other.content && reasoning == other.reasoning &&
           tool_calls == other.tool_calls && tool_call_id == other.tool_call_id;
  }
};

struct Conversation {
  std::string id;
  std::string model;
  std::int64_t created_s = 0;  // Unix time
  std::vector<Message> messages;
};

struct ConversationLimits {
  int most = 1024;
  std::chrono::seconds keep{86400};  // after the last use
};

class Conversations {
 public:
  // Creates the file and its directory, for this user alone. A file that is no SQLite database is moved aside
  // (".damaged-...") with an error in the log. Throws Error invalid_path when nothing can be stored there now.
  Conversations(const std::filesystem::path& file, ConversationLimits limits, const Clock& clock);

  // Throws Error conversation_not_found (unknown, expired or another owner's).
  Conversation get(const std::string& id, const std::string& owner);
  void remove(const std::string& id, const std::string& owner);
  int count();

  // The right to add one turn; gives itself back when it goes.
  class Turn {
   public:
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

    const std::string& id() const { return conversation_.id; }
    const std::string& model() const { return conversation_.model; }
    bool is_first() const { return first_; }
    const std::vector<Message>& history() const { return conversation_.messages; }

    // Adds the messages in one transaction. Throws Error conversation_not_found when it was removed meanwhile,
    // conversation_busy when another server on the same file has added a turn, internal_error when the disk won't take
    // it. At most once.
    void commit(const std::vector<Message>& messages);

   private:
    friend class Conversations;
    Turn(Conversations& conversations, Conversation conversation, std::string owner, bool first);

    Conversations& conversations_;
    Conversation conversation_;
    std::string owner_;
    bool first_;
  };

  // A turn of a new conversation. Nothing is stored before its commit.
  std::unique_ptr<Turn> create(const std::string& model, const std::string& owner);
  // The next turn. Throws Error conversation_not_found or conversation_busy.
  std::unique_ptr<Turn> resume(const std::string& id, const std::string& owner);

 private:
  std::int64_t now_ms() const;
  Conversation load(const std::string& id, const std::string& owner);
  void drop(const std::vector<std::string>& ids);
  void drop_expired();
  void drop_above_the_limit();
  void insert(const Turn& turn, const std::vector<Message>& messages);
  void release(const std::string& id);

  ConversationLimits limits_;
  const Clock& clock_;
  std::mutex mutex_;
  std::unique_ptr<Database> database_;
  std::unordered_set<std::string> busy_;  // ids with an open turn here
};

}  // namespace cortex

#include "service/conversations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "fakes/fake_clock.h"
#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using testing::ElementsAre;
using testing::StartsWith;

const Message kHello{"user", "Hello"};
const Message kHi{"assistant", "Hi!"};

class ConversationsTest : public testing::Test {
 protected:
  std::unique_ptr<Conversations> open(ConversationLimits limits = {}) {
    return std::make_unique<Conversations>(directory_ / "state" / "conversations.db", limits, clock_);
  }

  // One conversation with `turns` turns; returns its id.
  std::string talk(Conversations& conversations, int turns, const std::string& owner = "") {
    auto turn = conversations.create("m", owner);
    const std::string id = turn->id();
    turn->commit({kHello, kHi});
    turn.reset();
    for (int i = 1; i < turns; ++i) conversations.resume(id, owner)->commit({kHello, kHi});
    clock_.advance(1ms);
    return id;
  }

  ErrorCode code_of_get(Conversations& conversations, const std::string& id, const std::string& owner = "") {
    try {
      conversations.get(id, owner);
    } catch (const Error& error) {
      return error.code();
    }
    ADD_FAILURE() << id << " was found";
    return ErrorCode::internal_error;
  }

  TemporaryFolder folder_;
  const std::filesystem::path& directory_ = folder_.path();
  FakeClock clock_;
};

TEST_F(ConversationsTest, KeepWhatWasCommittedAcrossARestart) {
  std::string id;
  {
    auto conversations = open();
    id = talk(*conversations, 2);
    EXPECT_THAT(id, StartsWith("conv_"));
  }
  const Conversation found = open()->get(id, "");
  EXPECT_EQ(found.model, "m");
  EXPECT_EQ(found.created_s, 1'700'001'000);
  EXPECT_THAT(found.messages, ElementsAre(kHello, kHi, kHello, kHi));
}

TEST_F(ConversationsTest, ATurnThatIsNotCommittedLeavesNoTrace) {
  auto conversations = open();
  std::string id;
  {
    auto turn = conversations->create("m", "");
    id = turn->id();
  }
  EXPECT_EQ(code_of_get(*conversations, id), ErrorCode::conversation_not_found);
  EXPECT_EQ(conversations->count(), 0);
}

TEST_F(ConversationsTest, HaveOneOpenTurnAtMost) {
  auto conversations = open();
  const std::string id = talk(*conversations, 1);
  auto turn = conversations->resume(id, "");
  try {
    conversations->resume(id, "");
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::conversation_busy);
  }
  turn.reset();
  EXPECT_THAT(conversations->resume(id, "")->history(), ElementsAre(kHello, kHi));
}

TEST_F(ConversationsTest, AnotherOwnersIsIndistinguishableFromNone) {
  auto conversations = open();
  const std::string id = talk(*conversations, 1, "alice");
  EXPECT_EQ(code_of_get(*conversations, id, "bob"), ErrorCode::conversation_not_found);
  EXPECT_THROW(conversations->remove(id, "bob"), Error);
  EXPECT_THROW(conversations->resume(id, "bob"), Error);
  EXPECT_EQ(conversations->get(id, "alice").id, id);
}

TEST_F(ConversationsTest, RemovalIsForGood) {
  auto conversations = open();
  const std::string id = talk(*conversations, 1);
  conversations->remove(id, "");
  EXPECT_EQ(code_of_get(*conversations, id), ErrorCode::conversation_not_found);
}

TEST_F(ConversationsTest, ATurnOfARemovedConversationCanNotBeCommitted) {
  auto conversations = open();
  const std::string id = talk(*conversations, 1);
  auto turn = conversations->resume(id, "");
  conversations->remove(id, "");
  try {
    turn->commit({kHello, kHi});
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::conversation_not_found);
  }
  EXPECT_EQ(conversations->count(), 0);
}

TEST_F(ConversationsTest, ExpireAfterTheirLastUse) {
  auto conversations = open({.most = 10, .keep = 100s});
  const std::string used = talk(*conversations, 1);
  const std::string left = talk(*conversations, 1);
  clock_.advance(60s);
  conversations->resume(used, "")->commit({kHello, kHi});
  clock_.advance(60s);
  EXPECT_EQ(conversations->get(used, "").messages.size(), 4u);
  EXPECT_EQ(code_of_get(*conversations, left), ErrorCode::conversation_not_found);
}

TEST_F(ConversationsTest, AboveTheLimitSingleTurnsGoFirstThenTheLeastRecentlyUsed) {
  auto conversations = open({.most = 3, .keep = 86400s});
  const std::string long_old = talk(*conversations, 2);
  const std::string short_old = talk(*conversations, 1);
  const std::string long_new = talk(*conversations, 2);
  const std::string short_new = talk(*conversations, 1);
  EXPECT_EQ(code_of_get(*conversations, short_old), ErrorCode::conversation_not_found);
  talk(*conversations, 2);
  EXPECT_EQ(code_of_get(*conversations, short_new), ErrorCode::conversation_not_found);
  // No single one is left but the newcomer, which its client is about to use: the least recently used goes.
  const std::string last = talk(*conversations, 1);
  EXPECT_EQ(conversations->count(), 3);
  EXPECT_EQ(conversations->get(last, "").messages.size(), 2u);
  EXPECT_EQ(conversations->get(long_new, "").messages.size(), 4u);
  EXPECT_EQ(code_of_get(*conversations, long_old), ErrorCode::conversation_not_found);
}

TEST_F(ConversationsTest, OneWithAnOpenTurnIsNotDropped) {
  auto conversations = open({.most = 1, .keep = 86400s});
  const std::string busy = talk(*conversations, 1);
  auto turn = conversations->resume(busy, "");
  const std::string other = talk(*conversations, 2);
  turn->commit({kHello, kHi});
  EXPECT_EQ(conversations->get(busy, "").messages.size(), 4u);
  EXPECT_EQ(code_of_get(*conversations, other), ErrorCode::conversation_not_found);
}

TEST_F(ConversationsTest, AFileThatIsNoDatabaseIsMovedAside) {
  std::filesystem::create_directories(directory_ / "state");
  std::ofstream(directory_ / "state" / "conversations.db") << std::string(5000, 'x');
  auto conversations = open();
  EXPECT_EQ(conversations->count(), 0);
  int aside = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory_ / "state")) {
    if (entry.path().filename().string().starts_with("conversations.db.damaged-")) ++aside;
  }
  EXPECT_EQ(aside, 1);
}

TEST_F(ConversationsTest, ADatabaseThatIsOnlyLockedStaysWhereItIs) {
  const std::string id = talk(*open(), 1);
  const auto file = directory_ / "state" / "conversations.db";
  Database other(file);
  other.execute("PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE");
  try {
    open();
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_path);
    EXPECT_NE(error.message().find("locked"), std::string::npos) << error.message();
  }
  other.execute("ROLLBACK");
  EXPECT_EQ(open()->get(id, "").messages.size(), 2u);
}

TEST_F(ConversationsTest, AreForTheirUserAlone) {
  talk(*open(), 1);
  using std::filesystem::perms;
  EXPECT_EQ(std::filesystem::status(directory_ / "state").permissions(), perms::owner_all);
  for (const auto& entry : std::filesystem::directory_iterator(directory_ / "state")) {
    EXPECT_EQ(entry.status().permissions() & (perms::group_all | perms::others_all), perms::none) << entry.path();
  }
}

TEST_F(ConversationsTest, ExpiredOnesGoBeforeFreshOnesAboveTheLimit) {
  auto conversations = open({.most = 2, .keep = 100s});
  const std::string old = talk(*conversations, 2);
  talk(*conversations, 2);
  clock_.advance(101s);
  const std::string fresh = talk(*conversations, 1);
  const std::string other = talk(*conversations, 1);
  EXPECT_EQ(conversations->get(fresh, "").messages.size(), 2u);
  EXPECT_EQ(conversations->get(other, "").messages.size(), 2u);
  EXPECT_EQ(code_of_get(*conversations, old), ErrorCode::conversation_not_found);
}

TEST_F(ConversationsTest, OneWithAnOpenTurnDoesNotExpire) {
  auto conversations = open({.most = 10, .keep = 100s});
  const std::string id = talk(*conversations, 1);
  auto turn = conversations->resume(id, "");
  clock_.advance(200s);
  EXPECT_EQ(conversations->count(), 1);
  turn->commit({kHello, kHi});
  EXPECT_EQ(conversations->get(id, "").messages.size(), 4u);
}

TEST_F(ConversationsTest, TwoServersOnOneFileDoNotMixTheirTurns) {
  auto here = open();
  auto there = open();
  const std::string id = talk(*here, 1);
  auto first = here->resume(id, "");
  auto second = there->resume(id, "");
  first->commit({kHello, kHi});
  try {
    second->commit({kHello, kHi});
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::conversation_busy);
  }
  EXPECT_EQ(here->get(id, "").messages.size(), 4u);
}

TEST_F(ConversationsTest, APlaceThatTakesNothingIsAnInvalidPath) {
  std::ofstream(directory_ / "state") << "a file where the directory should be";
  try {
    open();
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_path);
  }
}

TEST_F(ConversationsTest, KeepTheIdsOfAReplyAcrossARestart) {
  const SampledText sampled{17, {1, 2, 300000}};
  std::string id;
  {
    auto conversations = open();
    auto turn = conversations->create("m", "");
    id = turn->id();
    turn->commit({kHello, {"assistant", "Hi!", sampled}});
  }
  auto conversations = open();
  const auto history = conversations->resume(id, "")->history();
  ASSERT_THAT(history, ElementsAre(kHello, kHi));
  EXPECT_FALSE(history[0].sampled);
  EXPECT_EQ(history[1].sampled, sampled);
}

TEST_F(ConversationsTest, AnOlderFileOpensAndKeepsIdsFromThenOn) {
  std::filesystem::create_directories(directory_ / "state");
  {
    Database old(directory_ / "state" / "conversations.db");
    old.execute(R"sql(
      CREATE TABLE conversation (id TEXT PRIMARY KEY, owner TEXT NOT NULL, model TEXT NOT NULL,
        created_s INTEGER NOT NULL, used_ms INTEGER NOT NULL, turns INTEGER NOT NULL);
      CREATE INDEX conversation_by_use ON conversation (used_ms);
      CREATE TABLE message (conversation TEXT NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
        position INTEGER NOT NULL, role TEXT NOT NULL, content TEXT NOT NULL,
        PRIMARY KEY (conversation, position)) WITHOUT ROWID;
      INSERT INTO conversation VALUES ('conv_old', '', 'm', 1, 9000000000000, 1);
      INSERT INTO message VALUES ('conv_old', 0, 'user', 'Hello'), ('conv_old', 1, 'assistant', 'Hi!');
      PRAGMA user_version = 1)sql");
  }
  const SampledText sampled{17, {1, 2, 3}};
  open()->resume("conv_old", "")->commit({kHello, {"assistant", "Hi!", sampled}});
  auto conversations = open();
  const auto history = conversations->resume("conv_old", "")->history();
  ASSERT_THAT(history, ElementsAre(kHello, kHi, kHello, kHi));
  EXPECT_FALSE(history[1].sampled);
  EXPECT_EQ(history[3].sampled, sampled);
}

TEST_F(ConversationsTest, AFileWithoutCallsOpensAndKeepsThemFromThenOn) {
  std::filesystem::create_directories(directory_ / "state");
  {
    Database old(directory_ / "state" / "conversations.db");
    old.execute(R"sql(
      CREATE TABLE conversation (id TEXT PRIMARY KEY, owner TEXT NOT NULL, model TEXT NOT NULL,
        created_s INTEGER NOT NULL, used_ms INTEGER NOT NULL, turns INTEGER NOT NULL);
      CREATE INDEX conversation_by_use ON conversation (used_ms);
      CREATE TABLE message (conversation TEXT NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
        position INTEGER NOT NULL, role TEXT NOT NULL, content TEXT NOT NULL, prompt_bytes INTEGER, tokens BLOB,
        PRIMARY KEY (conversation, position)) WITHOUT ROWID;
      INSERT INTO conversation VALUES ('conv_old', '', 'm', 1, 9000000000000, 1);
      INSERT INTO message VALUES ('conv_old', 0, 'user', 'Hello', NULL, NULL),
        ('conv_old', 1, 'assistant', 'Hi!', 7, x'05000000');
      PRAGMA user_version = 2)sql");
  }
  Message call{"assistant", ""};
  call.reasoning = "I'd better look.";
  call.tool_calls = {{"call_1", "f", "{\"x\": \"\\u00e9\"}"}, {"call_2", "g", "{}"}};
  Message result{"tool", "42"};
  result.tool_call_id = "call_1";
  open()->resume("conv_old", "")->commit({kHello, call, result});
  auto conversations = open();
  const auto history = conversations->resume("conv_old", "")->history();
  ASSERT_THAT(history, ElementsAre(kHello, kHi, kHello, call, result));
  EXPECT_EQ(history[1].sampled, (SampledText{7, {5}}));
  EXPECT_EQ(history[3].tool_calls[0].id, "call_1");
  EXPECT_EQ(history[3].tool_calls[1].id, "call_2");
}

TEST_F(ConversationsTest, KeepEveryByteOfAMessage) {
  auto conversations = open();
  const std::string content = "a\0b 'quoted' \"双\" 🙂"s;
  auto turn = conversations->create("m", "");
  const std::string id = turn->id();
  turn->commit({{"user", content}});
  EXPECT_EQ(conversations->get(id, "").messages.front().content, content);
}

}  // namespace
}  // namespace cortex

#include "engine/suffix_drafter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Tokens = std::vector<TokenId>;

struct Text {
  std::uint64_t sequence = 1;
  Tokens tokens;
  std::size_t prompt_tokens = 0;
  Tokens prediction;
  std::string salt;

  DraftContext context() const {
    return {
        .sequence = sequence, .tokens = tokens, .prompt_tokens = prompt_tokens, .prediction = prediction, .salt = salt};
  }
  void add(const Tokens& more) { tokens.insert(tokens.end(), more.begin(), more.end()); }
};

Tokens distinct(int count, TokenId first = 1000) {
  Tokens tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(first + i);
  return tokens;
}

// How many steps it takes to say `reply`, where every draft of up to `most` tokens rides.
int steps_for(SuffixDrafter* drafter, Text text, const Tokens& reply, int most = 8) {
  int steps = 0;
  for (std::size_t said = 0; said < reply.size(); ++steps) {
    const Draft draft = drafter->propose(text.context(), most);
    std::size_t right = 0;
    while (right < draft.tokens.size() && said + right < reply.size() && draft.tokens[right] == reply[said + right])
      ++right;
    const std::size_t end = std::min(said + right + 1, reply.size());
    for (; said < end; ++said) text.tokens.push_back(reply[said]);
  }
  drafter->finish(text.context());
  drafter->forget(text.sequence);
  return steps;
}

TEST(SuffixDrafter, GoesOnAsTheTextDidBefore) {
  SuffixDrafter drafter;
  Text text{.tokens = {1, 2, 3, 4, 5, 6, 1, 2, 3}, .prompt_tokens = 9};
  Draft draft = drafter.propose(text.context(), 3);
  EXPECT_THAT(draft.tokens, ElementsAre(4, 5, 6));
  EXPECT_EQ(draft.source, DraftSource::context);
  EXPECT_EQ(draft.matched, 3);
  text.add({4, 5});
  draft = drafter.propose(text.context(), 3);
  EXPECT_THAT(draft.tokens, ElementsAre(6, 1, 2));
  EXPECT_EQ(draft.matched, 5);
  EXPECT_THAT(drafter.propose(text.context(), 1).tokens, ElementsAre(6));
}

TEST(SuffixDrafter, HasNoIdeaWhereNothingIsAlike) {
  SuffixDrafter drafter;
  EXPECT_THAT(drafter.propose(Text{.tokens = distinct(50), .prompt_tokens = 50}.context(), 8).tokens, IsEmpty());
  EXPECT_THAT(drafter.propose(Text{.sequence = 2, .tokens = {1}, .prompt_tokens = 1}.context(), 8).tokens, IsEmpty());
}

TEST(SuffixDrafter, ALoopGoesOn) {
  SuffixDrafter drafter;
  const Text text{.tokens = {9, 1, 2, 3, 1, 2, 3, 1}, .prompt_tokens = 2};
  EXPECT_THAT(drafter.propose(text.context(), 7).tokens, ElementsAre(2, 3, 1, 2, 3, 1, 2));
}

TEST(SuffixDrafter, APredictionIsFollowedFromTheReplysBeginning) {
  SuffixDrafter drafter;
  Text text{.tokens = {1, 2, 3}, .prompt_tokens = 3, .prediction = distinct(20)};
  Draft draft = drafter.propose(text.context(), 4);
  EXPECT_THAT(draft.tokens, ElementsAre(1000, 1001, 1002, 1003));
  EXPECT_EQ(draft.source, DraftSource::prediction);
  text.add({1000, 1001});
  EXPECT_THAT(drafter.propose(text.context(), 2).tokens, ElementsAre(1002, 1003));
  // Another token in one's place, then on: the place is found again.
  text.add({7});
  EXPECT_THAT(drafter.propose(text.context(), 2).tokens, ElementsAre(1003, 1004));
  text.add({1003});
  draft = drafter.propose(text.context(), 2);
  EXPECT_THAT(draft.tokens, ElementsAre(1004, 1005));
  EXPECT_EQ(draft.source, DraftSource::nearby);
  // At its end there is nothing more.
  text.add(distinct(16, 1004));
  EXPECT_THAT(drafter.propose(text.context(), 2).tokens, IsEmpty());
}

TEST(SuffixDrafter, APredictionIsFoundAgainAfterAnyEdit) {
  const Tokens said = distinct(200);
  const Text text{.tokens = {1, 2, 3}, .prompt_tokens = 3, .prediction = said};
  const auto edited = [&](int from, int to, const Tokens& with) {
    Tokens reply(said.begin(), said.begin() + from);
    reply.insert(reply.end(), with.begin(), with.end());
    reply.insert(reply.end(), said.begin() + to, said.end());
    return reply;
  };
  SuffixDrafter drafter(0);
  EXPECT_EQ(steps_for(&drafter, text, said), 23);                                 // 200 tokens, nine a step
  EXPECT_LE(steps_for(&drafter, text, edited(100, 101, {5})), 25);                // replaced
  EXPECT_LE(steps_for(&drafter, text, edited(100, 103, {5})), 26);                // by fewer
  EXPECT_LE(steps_for(&drafter, text, edited(100, 101, {5, 6, 7})), 29);          // by more
  EXPECT_LE(steps_for(&drafter, text, edited(100, 100, {5})), 26);                // put in
  EXPECT_LE(steps_for(&drafter, text, edited(100, 108, {})), 26);                 // left out
  EXPECT_LE(steps_for(&drafter, text, edited(60, 140, distinct(20, 5000))), 40);  // far away
}

// One name in place of another, all over a text that repeats itself.
TEST(SuffixDrafter, ARenamedCopyTakesFewSteps) {
  std::mt19937 random(2);
  Tokens program;
  for (int line = 0; line < 40; ++line) {
    program.insert(program.end(), {1, 2, static_cast<TokenId>(10 + random() % 3), 3,
                                   static_cast<TokenId>(100 + random() % 50), 4, 50, 51, 5});
  }
  Tokens renamed;
  for (const TokenId token : program) {
    if (token == 51) continue;
    renamed.push_back(token);
    if (token == 50) renamed.insert(renamed.end() - 1, {60, 61}), renamed.pop_back();
  }
  Text text{.tokens = program, .prompt_tokens = program.size()};
  SuffixDrafter drafter(0);
  const int steps = steps_for(&drafter, text, renamed);
  EXPECT_LT(steps * 3, static_cast<int>(renamed.size()));
}

TEST(SuffixDrafter, RecentOutputsOfTheSaltAreRemembered) {
  SuffixDrafter drafter;
  const Tokens reply = distinct(40);
  const Text asked{.sequence = 1, .tokens = {1, 2, 3, 4}, .prompt_tokens = 4, .salt = "a"};
  EXPECT_EQ(steps_for(&drafter, asked, reply), 40);
  Text again{.sequence = 2, .tokens = {9, 9, 3, 4}, .prompt_tokens = 4, .salt = "a"};
  const Draft draft = drafter.propose(again.context(), 3);
  EXPECT_THAT(draft.tokens, ElementsAre(1000, 1001, 1002));
  EXPECT_EQ(draft.source, DraftSource::outputs);
  EXPECT_EQ(draft.matched, 2);
  EXPECT_LE(steps_for(&drafter, again, reply), 6);
  EXPECT_EQ(steps_for(&drafter, Text{.sequence = 3, .tokens = {1, 2, 3, 4}, .prompt_tokens = 4, .salt = "b"}, reply),
            40);
}

// Tokens that came while nobody asked are read later.
TEST(SuffixDrafter, CatchesUp) {
  SuffixDrafter drafter;
  Text text{.tokens = {1, 2, 3, 4}, .prompt_tokens = 4, .prediction = distinct(30)};
  drafter.propose(text.context(), 1);
  text.add(distinct(10));
  EXPECT_THAT(drafter.propose(text.context(), 2).tokens, ElementsAre(1010, 1011));
  text.add(distinct(12));
  EXPECT_THAT(drafter.propose(text.context(), 2).tokens, ElementsAre(1012, 1013));
}

TEST(SuffixDrafter, SequencesDoNotMeet) {
  SuffixDrafter drafter;
  const Text one{.sequence = 1, .tokens = {1, 2, 3, 1, 2}, .prompt_tokens = 5};
  const Text other{.sequence = 2, .tokens = {1, 2, 4, 1, 2}, .prompt_tokens = 5};
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(drafter.propose(one.context(), 1).tokens, ElementsAre(3));
    EXPECT_THAT(drafter.propose(other.context(), 1).tokens, ElementsAre(4));
  }
  drafter.forget(1);
  EXPECT_THAT(drafter.propose(Text{.sequence = 1, .tokens = {7, 8, 9}, .prompt_tokens = 3}.context(), 1).tokens,
              IsEmpty());
}

}  // namespace
}  // namespace cortex

#include "bench/load/load_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "bench/load/words.h"

namespace cortex {
namespace {

using testing::HasSubstr;
using testing::Not;

auto word_count(const std::string& text) { return text.empty() ? 0 : 1 + std::count(text.begin(), text.end(), ' '); }

std::string prompt_in(const PlannedRequest& request) {
  constexpr std::string_view kBefore = R"("content":")";
  const std::size_t begin = request.body.find(kBefore) + kBefore.size();
  return request.body.substr(begin, request.body.find('"', begin) - begin);
}

TEST(WordsTest, AreTheSameForTheSameSeed) {
  EXPECT_EQ(random_words(7, 3), "fact policy health");
  EXPECT_EQ(random_words(7, 0), "");
  EXPECT_EQ(word_count(random_words(8, 500)), 500);
  EXPECT_THAT(random_words(7, 20), testing::StartsWith(random_words(7, 19) + " "));
  EXPECT_NE(random_words(seed_of(7, 0), 20), random_words(seed_of(7, 1), 20));
}

TEST(LoadPlanTest, PromptsBeginAlikeAndGoOnApart) {
  const LoadPlan plan = plan_load({.chats = 50, .prompt_tokens = 60, .prefix_tokens = 40});
  ASSERT_EQ(plan.chats.size(), 50u);
  const std::string prefix = prompt_in(plan.chats[0]).substr(0, prompt_in(plan.chats[0]).find(' ') + 1);
  std::set<std::string> rests;
  for (const PlannedRequest& chat : plan.chats) {
    const std::string prompt = prompt_in(chat);
    EXPECT_EQ(word_count(prompt), 60);
    EXPECT_THAT(prompt, testing::StartsWith(prefix));
    rests.insert(prompt);
    EXPECT_EQ(chat.start_ms, 0);
  }
  EXPECT_EQ(rests.size(), 50u);
  const LoadPlan alike = plan_load({.chats = 2, .prompt_tokens = 30, .prefix_tokens = 90});
  EXPECT_EQ(prompt_in(alike.chats[0]), prompt_in(alike.chats[1]));
  EXPECT_EQ(word_count(prompt_in(alike.chats[0])), 30);
}

TEST(LoadPlanTest, ABodySaysWhatWasAsked) {
  LoadOptions options{.chat_model = "m", .output_tokens = 9};
  const std::string plain = plan_load(options).chats[0].body;
  EXPECT_THAT(plain, HasSubstr(R"("model":"m")"));
  EXPECT_THAT(plain,
              HasSubstr(R"("stream":true,"stream_options":{"include_usage":true},"max_tokens":9,"temperature":0)"));
  EXPECT_THAT(plain, Not(HasSubstr("ignore_eos")));
  EXPECT_THAT(plain, Not(HasSubstr("logit_bias")));
  options.ignore_eos = true;
  options.banned_tokens = {0, 2};
  EXPECT_THAT(plan_load(options).chats[0].body, HasSubstr(R"("ignore_eos":true,"logit_bias":{"0":-100,"2":-100}})"));
}

TEST(LoadPlanTest, RandomArrivalsComeAtTheirRate) {
  const LoadOptions options{.chats = 4000, .prompt_tokens = 1, .arrival = Arrival::poisson, .chats_per_second = 50};
  const LoadPlan plan = plan_load(options);
  double squares = 0.0, before = 0.0;
  for (const PlannedRequest& chat : plan.chats) {
    ASSERT_GT(chat.start_ms, before);
    squares += (chat.start_ms - before) * (chat.start_ms - before);
    before = chat.start_ms;
  }
  EXPECT_NEAR(before / 4000, 20, 1);                             // the mean
  EXPECT_NEAR(squares / 4000, 2 * 20 * 20, 2 * 20 * 20 * 0.15);  // twice its square: exponential
  EXPECT_FALSE(plan.chats_are_a_queue);
  EXPECT_TRUE(plan_load({.arrival = Arrival::one_after_another}).chats_are_a_queue);
}

TEST(LoadPlanTest, ALongPromptAndTextsToEmbed) {
  const LoadOptions options{
      .chats = 0, .long_tokens = 300, .long_after_ms = 70, .embed_calls = 2, .embed_texts = 3, .embed_tokens = 4};
  LoadPlan plan = plan_load(options);
  EXPECT_TRUE(plan.chats.empty());
  ASSERT_TRUE(plan.long_chat.has_value());
  EXPECT_EQ(word_count(prompt_in(*plan.long_chat)), 300);
  EXPECT_EQ(plan.long_chat->start_ms, 70);
  ASSERT_EQ(plan.embeds.size(), 2u);
  EXPECT_NE(plan.embeds[0].body, plan.embeds[1].body);
  LoadOptions same = options;
  same.embed_same_texts = true;
  plan = plan_load(same);
  EXPECT_EQ(plan.embeds[0].body, plan.embeds[1].body);
}

}  // namespace
}  // namespace cortex

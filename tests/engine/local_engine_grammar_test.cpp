// Replies that keep to grammars, of a model whose weights are random: without them it says nothing but noise.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <regex>

#include "backend/golden.h"
#include "engine/local_engine.h"
#include "engine/memory_plan.h"
#include "fakes/collected_events.h"
#include "fakes/token_texts.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr TokenId kTurnEnd = 2;  // <|im_end|>

struct Case {
  GrammarSyntax syntax;
  std::string grammar;
  std::string matched_by;  // by an expression of another library
};

const std::string kBlank = "(?: |\\n(?: {0,20}|\\t{0,8}))?";

// An expression in which every "_" may be a blank.
std::string spaced(const std::string& expression) {
  std::string whole;
  for (const char c : expression) whole += c == '_' ? kBlank : std::string(1, c);
  return whole;
}

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {GrammarSyntax::json_schema,
       R"({"type":"object","properties":{"name":{"type":"string","pattern":"^[a-z]{1,8}$"},)"
       R"("n":{"type":"integer","minimum":0,"maximum":20}},"required":["name","n"],"additionalProperties":false})",
       spaced(R"(\{_"name"_:_"[a-z]{1,8}"_,_"n"_:_(1?[0-9]|20)_\}_)")},
      {GrammarSyntax::json_schema,
       R"({"type":"array","items":{"enum":["red","green",null]},"minItems":1,"maxItems":4})",
       spaced(R"(\[_("red"|"green"|null)_(,_("red"|"green"|null)_){0,3}\]_)")},
      {GrammarSyntax::json_schema, R"({"type":"string","maxLength":5})",
       R"("([^"\\]|\\.|\\u[0-9a-fA-F]{4}){0,60}"\s*)"},
      {GrammarSyntax::regex, "[0-9]{4}-[0-9]{2}-[0-9]{2}", "[0-9]{4}-[0-9]{2}-[0-9]{2}"},
      {GrammarSyntax::regex, "(yes|no)( please)?", "(yes|no)( please)?"},
      {GrammarSyntax::lark, "start: \"<\" WORD (\",\" WORD)~0..3 \">\"\nWORD: /[a-c]{2,4}/\n",
       "<[a-c]{2,4}(,[a-c]{2,4}){0,3}>"},
  };
  return all;
}

class LocalEngineGrammarTest : public testing::Test {
 protected:
  LocalEngineGrammarTest() {
    options_.models = {{"m", golden_model("llama").string()}};
    options_.backend = "cpu";
    options_.threads = 2;
    options_.failpoint = [this](std::string_view phase, std::span<const TokenId>) {
      if (phase == "grammar") reach_grammar();
    };
  }
  ~LocalEngineGrammarTest() override { let_go(); }

  LocalEngine& engine() {
    if (!engine_) engine_ = std::make_unique<LocalEngine>(options_);
    return *engine_;
  }

  GenerateRequest ask(RequestId id, GrammarSyntax syntax, const std::string& grammar) const {
    GenerateRequest request = plain(id);
    request.grammar = Grammar{syntax, grammar, texts_};
    return request;
  }
  static GenerateRequest plain(RequestId id) {
    GenerateRequest request;
    request.id = id;
    request.model = "m";
    for (TokenId i = 0; i < 20; ++i) request.prompt.push_back(3 + (i * 37 + static_cast<TokenId>(id) * 11) % 400);
    request.max_tokens = 200;
    request.stop_ids = {kTurnEnd};
    request.sampling = {.temperature = 1.0f, .seed = id};
    return request;
  }
  // Of a reply that has ended.
  std::string text_of(const CollectedEvents& events) const {
    std::vector<TokenId> tokens = events.tokens();
    if (!tokens.empty() && tokens.back() == kTurnEnd) tokens.pop_back();
    return tokenizer_.decode(tokens, false);
  }
  void expect_matches(const CollectedEvents& events, const Case& one) const {
    ASSERT_FALSE(events.error()) << events.error()->message();
    ASSERT_EQ(events.finish(), FinishReason::stop) << one.grammar;
    EXPECT_TRUE(std::regex_match(text_of(events), std::regex(one.matched_by))) << one.grammar << "\n"
                                                                               << text_of(events);
  }

  void hold() {
    std::lock_guard lock(mutex_);
    held_ = true;
  }
  void let_go() {
    std::lock_guard lock(mutex_);
    held_ = false;
    changed_.notify_all();
  }
  int compiles() {
    std::lock_guard lock(mutex_);
    return compiles_;
  }
  void wait_for_compiles(int count) {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(changed_.wait_for(lock, 20s, [&] { return compiles_ >= count; }));
  }

  LocalEngineOptions options_;
  const Tokenizer tokenizer_ =
      Tokenizer::from_json(real_file_system().read_text(golden_model("llama") / "tokenizer.json", 64 << 20));
  const std::shared_ptr<const TokenTexts> texts_ = token_texts_of(tokenizer_, {kTurnEnd});

 private:
  void reach_grammar() {
    std::unique_lock lock(mutex_);
    ++compiles_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !held_; });
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool held_ = false;
  int compiles_ = 0;

 protected:
  std::unique_ptr<LocalEngine> engine_;
};

TEST_F(LocalEngineGrammarTest, EveryReplyKeepsToItsGrammar) {
  std::deque<CollectedEvents> events(cases().size() * 8);
  for (std::size_t i = 0; i < events.size(); ++i) {
    const Case& one = cases()[i % cases().size()];
    auto request = ask(i + 1, one.syntax, one.grammar);
    request.sampling.temperature = i % 3 == 0 ? 0.0f : 1.5f;
    if (i % 5 == 0) request.sampling.top_k = 20;
    engine().generate(request, events[i].sink());
  }
  for (std::size_t i = 0; i < events.size(); ++i) {
    events[i].wait();
    expect_matches(events[i], cases()[i % cases().size()]);
  }
  EXPECT_EQ(compiles(), static_cast<int>(cases().size()));
  const GrammarStatus status = engine().status().models.at(0).grammars;
  EXPECT_EQ(status.compiled, cases().size());
  EXPECT_EQ(status.reused, events.size() - cases().size());
  EXPECT_GT(status.masks, 100u);
  EXPECT_GT(status.masks_ms, 0.0);
}

TEST_F(LocalEngineGrammarTest, RepliesDoNotDependOnCompanyOrRoom) {
  std::vector<std::string> alone;
  for (std::size_t i = 0; i < cases().size(); ++i) {
    CollectedEvents events;
    engine().generate(ask(i + 1, cases()[i].syntax, cases()[i].grammar), events.sink());
    events.wait();
    alone.push_back(text_of(events));
  }
  engine_.reset();
  // So little room that sequences are preempted.
  options_.kv_bytes = 1 << 17;
  options_.max_sequences = 24;
  std::deque<CollectedEvents> events(cases().size() * 4);
  for (std::size_t i = 0; i < events.size(); ++i) {
    const Case& one = cases()[i % cases().size()];
    auto request = ask(i % cases().size() + 1, one.syntax, one.grammar);
    request.id = i + 1;
    if (i >= cases().size() * 2) request.grammar.reset();  // others
    engine().generate(request, events[i].sink());
  }
  for (std::size_t i = 0; i < events.size(); ++i) {
    events[i].wait();
    if (i >= cases().size() * 2) continue;
    EXPECT_EQ(text_of(events[i]), alone[i % cases().size()]);
  }
  EXPECT_GT(engine().status().models.at(0).kv.preemptions, 0u);
}

// Guides run ahead over drafts, and are taken back where these were wrong.
TEST_F(LocalEngineGrammarTest, RepliesAreTheSameWithAndWithoutDrafts) {
  std::map<bool, std::vector<std::vector<TokenId>>> replies;
  for (const bool drafts : {false, true}) {
    engine_.reset();
    options_.speculation = drafts;
    for (std::size_t i = 0; i < cases().size() * 6; ++i) {
      const Case& one = cases()[i % cases().size()];
      auto request = ask(i + 1, one.syntax, one.grammar);
      if (i % 4 == 0) request.sampling.temperature = 0.0f;
      if (i > 0) request.prediction = replies[drafts].back();  // seldom right, but of the right kind
      CollectedEvents events;
      engine().generate(request, events.sink());
      events.wait();
      expect_matches(events, one);
      replies[drafts].push_back(events.tokens());
    }
  }
  EXPECT_EQ(replies[true], replies[false]);
  EXPECT_GT(engine().status().models.at(0).speculation.drafted, 0u);
}

TEST_F(LocalEngineGrammarTest, BadGrammarsAreRefusedWhileOthersGoOn) {
  std::deque<CollectedEvents> others(4);
  CollectedEvents undisturbed;
  engine().generate(plain(1), undisturbed.sink());
  undisturbed.wait();
  for (std::size_t i = 0; i < others.size(); ++i) {
    auto request = plain(1);
    request.id = 10 + i;
    engine().generate(request, others[i].sink());
  }
  const auto refused = [&](RequestId id, GrammarSyntax syntax, const std::string& grammar) {
    CollectedEvents events;
    engine().generate(ask(id, syntax, grammar), events.sink());
    events.wait();
    EXPECT_EQ(events.events().size(), 1u);
    return events.error_code();
  };
  EXPECT_EQ(refused(20, GrammarSyntax::json_schema, R"({"type":"text"})"), ErrorCode::invalid_schema);
  EXPECT_EQ(refused(21, GrammarSyntax::json_schema, R"({"$ref":"#"})"), ErrorCode::invalid_schema);
  EXPECT_EQ(refused(22, GrammarSyntax::json_schema, R"({"pattern":"(?=a)b"})"), ErrorCode::unsupported_schema);
  EXPECT_EQ(refused(23, GrammarSyntax::regex, std::string(30'000, '(')), ErrorCode::invalid_grammar);
  EXPECT_EQ(refused(24, GrammarSyntax::lark, "start: start \"a\""), ErrorCode::invalid_grammar);
  EXPECT_EQ(refused(25, GrammarSyntax::lark, std::string(5 << 20, 'a')), ErrorCode::invalid_grammar);
  for (CollectedEvents& events : others) {
    events.wait();
    EXPECT_EQ(events.tokens(), undisturbed.tokens());
  }
}

TEST_F(LocalEngineGrammarTest, WaitsForOneCompileWithoutHoldingUpOthers) {
  hold();
  std::deque<CollectedEvents> events(3);
  const Case& one = cases()[3];
  for (std::size_t i = 0; i < events.size(); ++i)
    engine().generate(ask(i + 1, one.syntax, one.grammar), events[i].sink());
  wait_for_compiles(1);
  CollectedEvents other;
  engine().generate(plain(9), other.sink());
  other.wait();
  EXPECT_FALSE(other.error());
  EXPECT_EQ(engine().status().waiting, 3);
  engine().cancel(2);
  events[1].wait();
  EXPECT_EQ(events[1].error_code(), ErrorCode::cancelled);
  let_go();
  for (const std::size_t i : {std::size_t{0}, std::size_t{2}}) {
    events[i].wait();
    expect_matches(events[i], one);
  }
  EXPECT_EQ(compiles(), 1);
}

TEST_F(LocalEngineGrammarTest, ACompileEndsInTimeOrItsRequestDoes) {
  hold();
  const Case& one = cases()[0];
  CollectedEvents slow, impatient;
  engine().generate(ask(1, one.syntax, one.grammar), slow.sink());
  auto request = ask(2, one.syntax, one.grammar);
  request.timeout = 100ms;
  engine().generate(request, impatient.sink());
  impatient.wait();
  EXPECT_EQ(impatient.error_code(), ErrorCode::deadline_exceeded);
  slow.wait();
  EXPECT_EQ(slow.error_code(), ErrorCode::unsupported_schema);
  EXPECT_THAT(slow.error()->message(), HasSubstr("1500 ms"));
  // Another does not wait for it.
  CollectedEvents other;
  let_go();
  engine().generate(ask(3, cases()[4].syntax, cases()[4].grammar), other.sink());
  other.wait();
  expect_matches(other, cases()[4]);
}

TEST_F(LocalEngineGrammarTest, UnloadingAndStoppingEndWhatWaits) {
  hold();
  CollectedEvents unloaded, stopped;
  engine().generate(ask(1, cases()[0].syntax, cases()[0].grammar), unloaded.sink());
  wait_for_compiles(1);
  engine().unload_model("m", [](const std::optional<Error>&) {});
  unloaded.wait();
  EXPECT_EQ(unloaded.error_code(), ErrorCode::model_loading);
  engine().generate(ask(2, cases()[1].syntax, cases()[1].grammar), stopped.sink());
  wait_for_compiles(2);
  std::thread later([this] {
    std::this_thread::sleep_for(50ms);
    let_go();
  });
  engine_.reset();
  later.join();
  EXPECT_EQ(stopped.error_code(), ErrorCode::engine_unavailable);
}

TEST_F(LocalEngineGrammarTest, AReloadedModelKeepsToGrammarsToo) {
  for (RequestId id = 1; id <= 2; ++id) {
    CollectedEvents events;
    engine().generate(ask(id, cases()[0].syntax, cases()[0].grammar), events.sink());
    events.wait();
    expect_matches(events, cases()[0]);
    EXPECT_EQ(engine().status().models.at(0).grammars.compiled, 1u);
    engine().unload_model("m", [](const std::optional<Error>&) {});
  }
  EXPECT_EQ(compiles(), 2);
}

TEST_F(LocalEngineGrammarTest, AReplyThatIsCutLacksItsEndOnly) {
  auto request = ask(1, cases()[0].syntax, cases()[0].grammar);
  request.max_tokens = 4;
  CollectedEvents events;
  engine().generate(request, events.sink());
  events.wait();
  EXPECT_EQ(events.finish(), FinishReason::length);
  EXPECT_EQ(events.tokens().size(), 4u);
  EXPECT_EQ(text_of(events).front(), '{');
}

TEST_F(LocalEngineGrammarTest, AGrammarWithoutAVocabularyFailsItsRequestOnly) {
  auto request = ask(1, cases()[0].syntax, cases()[0].grammar);
  request.grammar->vocabulary.reset();
  CollectedEvents events, other;
  engine().generate(request, events.sink());
  events.wait();
  EXPECT_EQ(events.error_code(), ErrorCode::internal_error);
  engine().generate(plain(2), other.sink());
  other.wait();
  EXPECT_FALSE(other.error());
}

TEST_F(LocalEngineGrammarTest, AMemoryBudgetWithoutRoomForGrammarsRefusesThem) {
  const MemoryPlan least = estimate_memory(golden_model("llama"), {.threads = 2}).least;
  ASSERT_TRUE(least.no_grammars);
  options_.memory_bytes = least.total_bytes() + (std::uint64_t{64} << 10);
  CollectedEvents events, other;
  engine().generate(ask(1, cases()[0].syntax, cases()[0].grammar), events.sink());
  events.wait();
  EXPECT_EQ(events.error_code(), ErrorCode::request_cannot_fit);
  EXPECT_THAT(events.error().value().message(), testing::HasSubstr("--memory-budget has no room for grammars"));
  engine().generate(plain(2), other.sink());
  other.wait();
  EXPECT_FALSE(other.error());
  EXPECT_THAT(engine().status().models.at(0).plan, testing::HasSubstr("no grammars"));
}

TEST_F(LocalEngineGrammarTest, ReachingNoEndIsAnErrorOfTheOneRequest) {
  // The model may not end: the tokenizer names no token for that, and neither does the request.
  auto request = ask(1, GrammarSyntax::regex, "ab");
  request.grammar->vocabulary = token_texts_of(tokenizer_, {});
  request.stop_ids.clear();
  CollectedEvents events, other;
  engine().generate(request, events.sink());
  engine().generate(plain(2), other.sink());
  events.wait();
  EXPECT_EQ(events.error_code(), ErrorCode::invalid_grammar);
  other.wait();
  EXPECT_FALSE(other.error());
}

}  // namespace
}  // namespace cortex

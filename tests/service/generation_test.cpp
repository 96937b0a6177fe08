#include "service/generation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <future>
#include <mutex>
#include <stdexcept>

#include "fakes/echo_engine.h"
#include "fakes/fake_clock.h"
#include "service/served_models.h"

namespace cortex {
namespace {

using testing::Each;
using testing::HasSubstr;
using testing::SizeIs;

constexpr TokenId kEndOfTurn = 2;

// The events of a call until its last one.
struct Told {
  std::mutex mutex;
  std::vector<GenerationEvent> events;
  std::promise<void> over;

  static GenerationSink sink(const std::shared_ptr<Told>& told) {
    return [told](GenerationEvent event) {
      std::lock_guard lock(told->mutex);
      const bool last = event.end || event.error;
      told->events.push_back(std::move(event));
      if (last) told->over.set_value();
    };
  }
};

class GenerationTest : public testing::Test {
 protected:
  std::vector<TokenId> ids_of(std::string_view text) const {
    return model_.tokenizer->encode(text, {.add_special_tokens = false, .parse_special = false});
  }

  GenerationCall call(Engine& engine, const GenerationOptions& options, int prompts = 1) {
    Admission admission(engine, 100);
    GenerationCall call = begin_call("test-", options, clock_);
    admit(&call, admission, model_, static_cast<std::size_t>(prompts) * static_cast<std::size_t>(options.n));
    for (int i = 0; i < prompts; ++i) add_choices(&call, options, ids_of("hi"), nullptr, "prompt");
    return call;
  }

  std::vector<GenerationEvent> run(GenerationCall call) {
    auto told = std::make_shared<Told>();
    std::make_shared<Generation>(place_, std::move(call), Told::sink(told))->start();
    told->over.get_future().get();
    return told->events;
  }

  const ServedModel& model_ = tiny_models().find("chat", Task::complete);
  FakeClock clock_;
  ThreadPool text_threads_{1};
  RunningCalls running_;
  GenerationPlace place_{running_, text_threads_, clock_};
};

TEST_F(GenerationTest, EveryTextHasItsOwnPiecesAndEnd) {
  // The i-th text is i + 1 tokens long: the seed tells which one it is.
  EchoEngine engine({.reply = [](const GenerateRequest& request) {
    std::vector<TokenId> reply(request.sampling.seed + 1, 100);
    reply.push_back(kEndOfTurn);
    return reply;
  }});
  GenerationOptions options;
  options.n = 3;
  options.sampling.seed = 0;
  const auto events = run(call(engine, options, 2));
  std::vector<std::string> texts(6);
  std::vector<int> finished(6);
  for (const auto& event : events) {
    const auto index = static_cast<std::size_t>(event.choice);
    EXPECT_EQ(finished[index], event.end ? 1 : 0) << "something came after the end of text " << index;
    texts[index] += event.text;
    if (event.finish) ++finished[index];
  }
  EXPECT_THAT(finished, Each(1));
  ASSERT_TRUE(events.back().end);
  const GenerationEnd& end = *events.back().end;
  ASSERT_THAT(end.choices, SizeIs(6));
  const std::string word = model_.tokenizer->decode(std::vector<TokenId>{100}, false);
  for (std::size_t i = 0; i < 6; ++i) {
    std::string expected;
    for (std::size_t k = 0; k <= i % 3; ++k) expected += word;
    EXPECT_EQ(end.choices[i].text, expected);
    EXPECT_EQ(texts[i], expected);
    EXPECT_EQ(end.choices[i].reason, FinishReason::stop);
  }
  EXPECT_EQ(end.usage.prompt_tokens, 2 * static_cast<int>(ids_of("hi").size()));
  EXPECT_EQ(end.usage.completion_tokens, 2 * (2 + 3 + 4));
}

TEST_F(GenerationTest, UsageGrowsWithThePieces) {
  EchoEngine engine({.reply = [](const GenerateRequest&) { return std::vector<TokenId>{100, 101, 102, kEndOfTurn}; }});
  const auto events = run(call(engine, {}));
  int last = 0;
  for (const auto& event : events) {
    if (event.end) break;
    EXPECT_GT(event.usage.prompt_tokens, 0);
    EXPECT_GE(event.usage.completion_tokens, last);
    last = event.usage.completion_tokens;
  }
  EXPECT_EQ(last, 4);
}

// The cache has told by the first token, which is all that is heard of the engine's timings here.
TEST_F(GenerationTest, TheCacheIsToldEvenWhereAStopStringEndsTheText) {
  EchoEngine engine({.reply =
                         [this](const GenerateRequest&) {
                           auto reply = ids_of("one two three four");
                           reply.push_back(kEndOfTurn);
                           return reply;
                         },
                     .timings =
                         [](const GenerateRequest& request, GenerateTimings* timings) {
                           timings->cached_tokens = 48;
                           timings->cached_disk_tokens = 32;
                           if (request.explain) timings->cache = {CacheMiss::diverged, 50, 100};
                         }});
  GenerationOptions options;
  options.explain = true;
  for (const char* stop : {" two", "never"}) {
    options.stop = {stop};
    const GenerationEnd end = *run(call(engine, options)).back().end;
    EXPECT_EQ(end.usage.cached_tokens, 48) << stop;
    ASSERT_TRUE(end.timings.cache) << stop;
    EXPECT_EQ(end.timings.cache->hit_tokens, 48);
    EXPECT_EQ(end.timings.cache->disk_tokens, 32);
    EXPECT_EQ(end.timings.cache->explanation.miss, CacheMiss::diverged);
    EXPECT_EQ(end.timings.cache->explanation.diverged_at, 50);
    EXPECT_EQ(end.timings.cache->diverged_text, model_.tokenizer->token_bytes(100));
  }
  EXPECT_FALSE(run(call(engine, {})).back().end->timings.cache);
}

TEST_F(GenerationTest, CachedTokensCountOnceForEachPrompt) {
  EchoEngine engine({.reply = [](const GenerateRequest&) { return std::vector<TokenId>{100, kEndOfTurn}; },
                     .timings =
                         [](const GenerateRequest& request, GenerateTimings* timings) {
                           timings->cached_tokens = static_cast<int>(request.prompt.size()) - 1;
                         }});
  GenerationOptions options;
  options.n = 3;
  const GenerationEnd end = *run(call(engine, options, 2)).back().end;
  EXPECT_EQ(end.usage.cached_tokens, 2 * (static_cast<int>(ids_of("hi").size()) - 1));
}

TEST_F(GenerationTest, GapsBetweenTokensAreOfEachText) {
  // Time passes before the first token and before the last.
  EchoEngine engine(
      {.reply = [](const GenerateRequest&) { return std::vector<TokenId>{100, 101, 102, kEndOfTurn}; },
       .timings = [this](const GenerateRequest&, GenerateTimings*) { clock_.advance(std::chrono::milliseconds(20)); }});
  GenerationOptions options;
  for (const int n : {1, 2}) {
    options.n = n;
    std::vector<int> tokens(static_cast<std::size_t>(n));
    double total_s = 0;
    for (const auto& event : run(call(engine, options))) {
      if (event.end) break;
      tokens[static_cast<std::size_t>(event.choice)] += event.next_tokens;
      total_s += event.next_tokens * event.token_gap_s;
    }
    EXPECT_THAT(tokens, Each(3));  // all but the first
    EXPECT_GT(total_s, 0.0);
    // With two of them they also wait for each other.
    EXPECT_TRUE(n > 1 || std::abs(total_s - 0.02) < 1e-9) << total_s;
  }
}

TEST_F(GenerationTest, AStopStringEndsOneTextOnly) {
  EchoEngine engine({.reply = [this](const GenerateRequest& request) {
    auto reply = ids_of(request.sampling.seed == 0 ? "one two three" : "four five six");
    reply.push_back(kEndOfTurn);
    return reply;
  }});
  GenerationOptions options;
  options.n = 2;
  options.sampling.seed = 0;
  options.stop = {" two"};
  const auto events = run(call(engine, options));
  const GenerationEnd& end = *events.back().end;
  EXPECT_EQ(end.choices[0].text, "one");
  EXPECT_EQ(end.choices[1].text, "four five six");
}

TEST_F(GenerationTest, OneFailureIsTheWholeCalls) {
  EchoEngine engine({.token_delay = std::chrono::seconds(10), .fail_generate = [](const GenerateRequest& request) {
                       return request.sampling.seed == 2
                                  ? std::optional(Error(ErrorCode::request_cannot_fit, "too large"))
                                  : std::nullopt;
                     }});
  GenerationOptions options;
  options.n = 4;
  options.sampling.seed = 0;
  const auto events = run(call(engine, options));
  ASSERT_TRUE(events.back().error);
  EXPECT_EQ(events.back().error->code(), ErrorCode::request_cannot_fit);
  // The others do not go on for nobody.
  for (int i = 0; i < 2000 && engine.status().running > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(engine.status().running, 0);
}

TEST_F(GenerationTest, ACancelEndsAllTextsWithOneError) {
  EchoEngine engine({.token_delay = std::chrono::seconds(10)});
  GenerationOptions options;
  options.n = 3;
  options.owner = "alice";
  GenerationCall prepared = call(engine, options);
  const std::string id = prepared.id;
  EXPECT_THAT(id, HasSubstr("test-"));
  auto told = std::make_shared<Told>();
  std::make_shared<Generation>(place_, std::move(prepared), Told::sink(told))->start();
  EXPECT_FALSE(running_.cancel(id, "bob"));
  EXPECT_TRUE(running_.cancel(id, "alice"));
  told->over.get_future().get();
  EXPECT_EQ(told->events.back().error->code(), ErrorCode::cancelled);
  EXPECT_FALSE(running_.cancel(id, "alice"));
}

TEST_F(GenerationTest, TicketsAreGivenBackAtTheEnd) {
  EchoEngine engine({.reply = [](const GenerateRequest&) { return std::vector<TokenId>{100, kEndOfTurn}; }});
  Admission admission(engine, 2);
  GenerationOptions options;
  options.n = 2;
  for (int i = 0; i < 3; ++i) {
    GenerationCall prepared = begin_call("test-", options, clock_);
    admit(&prepared, admission, model_, 2);
    add_choices(&prepared, options, ids_of("hi"), nullptr, "prompt");
    EXPECT_THROW(admission.enter("chat"), Error);
    run(std::move(prepared));
  }
}

// Its prompt's log-probabilities are one too few. Like any engine it outlives a sink that throws.
class LyingEngine : public EchoEngine {
 public:
  LyingEngine() : EchoEngine({.token_delay = std::chrono::milliseconds(500)}) {}

  void generate(GenerateRequest request, GenerateSink sink) override {
    EchoEngine::generate(std::move(request), [this, sink = std::move(sink)](GenerateEvent event) {
      if (!event.prompt_logprobs.empty()) event.prompt_logprobs.pop_back();
      try {
        sink(std::move(event));
      } catch (const std::exception&) {
        ++escaped;
      }
    });
  }

  std::atomic<int> escaped = 0;
};

TEST_F(GenerationTest, AnEngineThatBreaksItsWordFailsTheCall) {
  LyingEngine engine;
  GenerationOptions options;
  options.logprobs = true;
  options.max_tokens = 400;
  GenerationCall prepared = call(engine, options);
  prepared.echo = true;
  const auto ids = ids_of("hi");
  prepared.choices.front().prompt = std::make_shared<PromptText>(PromptText{"hi", ids, 0});
  prepared.choices.front().request.prompt_logprobs = true;
  const auto events = run(std::move(prepared));
  ASSERT_THAT(events, SizeIs(1));
  ASSERT_TRUE(events.back().error);
  EXPECT_EQ(events.back().error->code(), ErrorCode::internal_error);
  EXPECT_EQ(engine.escaped, 0);
  for (int i = 0; i < 2000 && engine.status().running > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(engine.status().running, 0) << "it goes on for nobody";
}

TEST_F(GenerationTest, ASinkThatThrowsHearsOfTheEndAllTheSame) {
  EchoEngine engine({.reply = [](const GenerateRequest&) { return std::vector<TokenId>{100, 101, kEndOfTurn}; }});
  auto told = std::make_shared<Told>();
  auto sink = [told](GenerationEvent event) {
    const bool last = event.end || event.error;
    Told::sink(told)(std::move(event));
    if (!last) throw std::runtime_error("no room");
  };
  std::make_shared<Generation>(place_, call(engine, {}), sink)->start();
  told->over.get_future().get();
  ASSERT_THAT(told->events, SizeIs(2));
  EXPECT_EQ(told->events.back().error->code(), ErrorCode::internal_error);
}

TEST_F(GenerationTest, TokensAreKeptForTheEndOnlyWhereTheyAreWanted) {
  EchoEngine engine({.reply = [](const GenerateRequest&) { return std::vector<TokenId>{100, 101, kEndOfTurn}; }});
  GenerationOptions options;
  options.logprobs = true;
  for (const bool keeps : {true, false}) {
    GenerationCall prepared = call(engine, options);
    prepared.keeps_tokens = keeps;
    const auto events = run(std::move(prepared));
    EXPECT_THAT(events.front().tokens, SizeIs(1));
    EXPECT_THAT(events.back().end->choices.front().tokens, SizeIs(keeps ? 2 : 0));
  }
}

TEST_F(GenerationTest, APoolThatStopsIsAnError) {
  EchoEngine engine({.reply = [](const GenerateRequest&) { return std::vector<TokenId>{100, kEndOfTurn}; }});
  text_threads_.stop();
  const auto events = run(call(engine, {}));
  EXPECT_EQ(events.back().error->code(), ErrorCode::draining);
}

}  // namespace
}  // namespace cortex

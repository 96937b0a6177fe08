#include "engine/grammar_compiler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <future>
#include <mutex>

#include "fakes/fake_clock.h"
#include "fakes/token_texts.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::IsEmpty;

// Holds compiles up until a test lets them go on.
class Gate {
 public:
  void close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  void open() {
    std::lock_guard lock(mutex_);
    closed_ = false;
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    ++arrived_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !closed_; });
  }
  void wait_for(int arrived) {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(changed_.wait_for(lock, 20s, [&] { return arrived_ >= arrived; }));
  }
  int arrived() {
    std::lock_guard lock(mutex_);
    return arrived_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool closed_ = false;
  int arrived_ = 0;
};

class GrammarCompilerTest : public testing::Test {
 protected:
  GrammarCompilerTest() {
    options_.before_build = [this] { gate_.pass(); };
    options_.wake = [this] { ++wakes_; };
  }
  ~GrammarCompilerTest() override { gate_.open(); }

  GrammarCompiler& compiler() {
    if (!compiler_) compiler_.emplace(&clock_, options_);
    return *compiler_;
  }
  Grammar regex(std::string text) { return {GrammarSyntax::regex, std::move(text), texts_}; }

  std::vector<GrammarCompiler::Ready> wait_for(std::size_t count) {
    std::vector<GrammarCompiler::Ready> all;
    for (int i = 0; i < 10'000 && all.size() < count; ++i) {
      for (auto& ready : compiler().take_ready()) all.push_back(std::move(ready));
      std::this_thread::sleep_for(1ms);
    }
    EXPECT_EQ(all.size(), count);
    return all;
  }
  static std::optional<ErrorCode> code(const GrammarCompiler::Ready& ready) {
    const auto* error = std::get_if<Error>(&ready.outcome);
    return error ? std::optional(error->code()) : std::nullopt;
  }

  FakeClock clock_;
  Gate gate_;
  std::atomic<int> wakes_ = 0;
  GrammarCompilerOptions options_;
  std::shared_ptr<const TokenTexts> texts_ = byte_texts({"<end>"}, {256});
  std::optional<GrammarCompiler> compiler_;
};

TEST_F(GrammarCompilerTest, CompilesOnceAndKeepsWhatItHas) {
  gate_.close();
  compiler().compile(1, 0, regex("a+"));
  compiler().compile(2, 0, regex("a+"));
  gate_.wait_for(1);
  EXPECT_TRUE(compiler().due());
  EXPECT_THAT(compiler().take_ready(), IsEmpty());
  gate_.open();
  const auto ready = wait_for(2);
  EXPECT_FALSE(code(ready[0]));
  EXPECT_EQ(gate_.arrived(), 1);
  EXPECT_EQ(wakes_, 1);
  compiler().compile(3, 0, regex("a+"));
  EXPECT_EQ(compiler().take_ready().size(), 1u);
  EXPECT_FALSE(compiler().due());
  const GrammarStatus status = compiler().status(0);
  EXPECT_EQ(status.compiled, 1u);
  EXPECT_EQ(status.reused, 2u);
  EXPECT_EQ(status.refused, 0u);
  // Another syntax or model is another grammar.
  compiler().compile(4, 0, {GrammarSyntax::lark, "start: \"a\"", texts_});
  compiler().compile(5, 1, regex("a+"));
  wait_for(2);
  EXPECT_EQ(gate_.arrived(), 3);
}

TEST_F(GrammarCompilerTest, SaysWhyItRefuses) {
  compiler().compile(1, 0, regex("("));
  compiler().compile(2, 0, {GrammarSyntax::json_schema, R"({"type":"text"})", texts_});
  compiler().compile(3, 0, {GrammarSyntax::json_schema, R"({"not":{}})", texts_});
  compiler().compile(4, 0, {GrammarSyntax::lark, "start: a", texts_});
  std::map<RequestId, std::optional<ErrorCode>> codes;
  for (const auto& ready : wait_for(4)) codes[ready.id] = code(ready);
  EXPECT_EQ(codes[1], ErrorCode::invalid_grammar);
  EXPECT_EQ(codes[2], ErrorCode::invalid_schema);
  EXPECT_EQ(codes[3], ErrorCode::unsupported_schema);
  EXPECT_EQ(codes[4], ErrorCode::invalid_grammar);
  EXPECT_EQ(compiler().status(0).refused, 4u);
  // Known by now.
  compiler().compile(5, 0, regex("("));
  EXPECT_EQ(code(compiler().take_ready().at(0)), ErrorCode::invalid_grammar);
  EXPECT_EQ(gate_.arrived(), 4);
}

TEST_F(GrammarCompilerTest, WhatTakesTooLongFailsAndHoldsUpNobody) {
  gate_.close();
  compiler().compile(1, 0, regex("a"));
  compiler().compile(2, 0, regex("b"));
  gate_.wait_for(2);
  clock_.advance(options_.deadline - 1ms);
  EXPECT_THAT(compiler().take_ready(), IsEmpty());
  EXPECT_LE(*compiler().due(), clock_.steady_now() + 1ms);
  clock_.advance(1ms);
  const auto late = compiler().take_ready();
  ASSERT_EQ(late.size(), 2u);
  EXPECT_EQ(code(late[0]), ErrorCode::invalid_grammar);
  EXPECT_THAT(std::get<Error>(late[0].outcome).message(), HasSubstr("more than 1500 ms"));
  EXPECT_FALSE(compiler().due());
  // The same again is refused at once, another begins although both still run.
  compiler().compile(3, 0, regex("a"));
  EXPECT_EQ(code(compiler().take_ready().at(0)), ErrorCode::invalid_grammar);
  compiler().compile(4, 0, regex("c"));
  gate_.wait_for(3);
  gate_.open();
  const auto ready = wait_for(1);
  EXPECT_EQ(ready[0].id, 4u);
  EXPECT_FALSE(code(ready[0]));
  // What it came to in the end is not lost.
  for (int i = 0; i < 1000 && compiler().status(0).compiled < 3; ++i) {
    compiler().take_ready();
    std::this_thread::sleep_for(1ms);
  }
  compiler().compile(5, 0, regex("a"));
  EXPECT_FALSE(code(compiler().take_ready().at(0)));
  EXPECT_EQ(gate_.arrived(), 3);
}

TEST_F(GrammarCompilerTest, ThreadsAreFew) {
  gate_.close();
  RequestId id = 0;
  for (std::size_t late = 0; late < options_.most_threads; late += options_.most_at_once) {
    for (std::size_t i = 0; i < options_.most_at_once; ++i) {
      ++id;
      compiler().compile(id, 0, regex(std::to_string(id)));
    }
    gate_.wait_for(static_cast<int>(id));
    clock_.advance(options_.deadline);
    EXPECT_EQ(compiler().take_ready().size(), options_.most_at_once);
  }
  compiler().compile(100, 0, regex("x"));
  EXPECT_THAT(compiler().take_ready(), IsEmpty());
  clock_.advance(options_.patience - 1ms);
  EXPECT_THAT(compiler().take_ready(), IsEmpty());
  clock_.advance(1ms);
  EXPECT_EQ(code(compiler().take_ready().at(0)), ErrorCode::queue_full);
  EXPECT_EQ(gate_.arrived(), static_cast<int>(options_.most_threads));
}

TEST_F(GrammarCompilerTest, TheThirdWaitsForAThread) {
  gate_.close();
  for (RequestId id = 1; id <= 3; ++id) compiler().compile(id, 0, regex(std::to_string(id)));
  gate_.wait_for(2);
  EXPECT_EQ(gate_.arrived(), 2);
  gate_.open();
  wait_for(3);
}

TEST_F(GrammarCompilerTest, ForgetsWhatNobodyWaitsFor) {
  gate_.close();
  for (RequestId id = 1; id <= 3; ++id) compiler().compile(id, 0, regex(std::to_string(id)));
  gate_.wait_for(2);
  compiler().forget(1);
  compiler().forget(3);  // it has no thread yet, and never gets one
  compiler().forget(99);
  gate_.open();
  EXPECT_EQ(wait_for(1)[0].id, 2u);
  for (int i = 0; i < 1000 && compiler().due(); ++i) {
    compiler().take_ready();
    std::this_thread::sleep_for(1ms);
  }
  EXPECT_EQ(gate_.arrived(), 2);
  compiler().compile(4, 0, regex("1"));  // what was compiled all the same is there
  EXPECT_EQ(compiler().take_ready().size(), 1u);
  compiler().compile(5, 0, regex("1"));
  compiler().forget(5);
  EXPECT_THAT(compiler().take_ready(), IsEmpty());
}

TEST_F(GrammarCompilerTest, TheCacheIsBoundedAndTheLongestUnusedGoes) {
  options_.cache_bytes = 0;
  for (const char* text : {"a", "b", "a"}) {
    compiler().compile(1, 0, regex(text));
    wait_for(1);
  }
  EXPECT_EQ(gate_.arrived(), 3) << "one is all that it keeps";
  compiler_.reset();
  options_.cache_bytes = 2'000'000;
  RequestId id = 10;
  const int before = gate_.arrived();
  for (int i = 0; i < 60; ++i) {
    compiler().compile(++id, 0, regex("first"));
    wait_for(1);
    compiler().compile(++id, 0, regex("x" + std::to_string(i)));
    wait_for(1);
    EXPECT_LE(compiler().cached_bytes(), options_.cache_bytes);
  }
  EXPECT_EQ(gate_.arrived() - before, 61);  // the first is always in use
  EXPECT_GT(compiler().cached_bytes(), options_.cache_bytes / 2);
  compiler().compile(++id, 0, regex("x0"));
  wait_for(1);
  EXPECT_EQ(gate_.arrived() - before, 62);  // while this one went
}

TEST_F(GrammarCompilerTest, WhatAModelUsedLastStaysHoweverLargeItIs) {
  options_.cache_bytes = 1;
  RequestId id = 0;
  const auto compile = [&](std::size_t model, const std::string& text) {
    compiler().limit_cache(model, 1);
    compiler().compile(++id, model, regex(text));
    wait_for(1);
  };
  for (int round = 0; round < 3; ++round) {
    compile(0, "(.|\\n){0,2000}");
    compile(1, "a");
    EXPECT_EQ(gate_.arrived(), 2) << round;
  }
  compile(0, "b");
  compile(0, "(.|\\n){0,2000}");
  EXPECT_EQ(gate_.arrived(), 4) << "all but the last have gone";
}

TEST_F(GrammarCompilerTest, AModelsPartOfTheCacheIsItsOwn) {
  RequestId id = 0;
  const auto compile = [&](std::size_t model, const std::string& text) {
    compiler().compile(++id, model, regex(text));
    wait_for(1);
  };
  EXPECT_EQ(compiler().bytes(0), 0u);
  compile(0, "a");
  compile(1, "a");
  const std::size_t both = compiler().cached_bytes();
  const std::size_t trie = compiler().bytes(0) + compiler().bytes(1) - both;
  EXPECT_GT(trie, texts_->bytes.size()) << "of each";
  compile(0, "b");
  compile(1, "b");
  compiler().limit_cache(0, compiler().cached_bytes() / 4);  // one of two
  EXPECT_LT(compiler().bytes(0), compiler().bytes(1));
  const int before = gate_.arrived();
  compile(0, "b");
  compile(1, "a");
  compile(1, "b");
  EXPECT_EQ(gate_.arrived(), before) << "the other model has all of its own, and the last stays";
  compile(0, "a");
  EXPECT_EQ(gate_.arrived(), before + 1);
  compiler().drop(0);
  EXPECT_EQ(compiler().bytes(0), 0u);
  EXPECT_GT(compiler().bytes(1), trie / 2);
}

TEST_F(GrammarCompilerTest, ADroppedModelTakesItsGrammarsAlong) {
  compiler().compile(1, 0, regex("a"));
  compiler().compile(2, 1, regex("a"));
  wait_for(2);
  gate_.close();
  compiler().compile(3, 0, regex("b"));
  gate_.wait_for(3);
  compiler().forget(3);
  compiler().drop(0);
  gate_.open();
  for (int i = 0; i < 1000 && compiler().due(); ++i) {
    compiler().take_ready();
    std::this_thread::sleep_for(1ms);
  }
  EXPECT_EQ(compiler().status(0).compiled, 0u);
  EXPECT_EQ(compiler().status(1).compiled, 1u);
  compiler().compile(4, 0, regex("b"));
  compiler().compile(5, 1, regex("a"));
  wait_for(2);
  EXPECT_EQ(gate_.arrived(), 4);
  // So does another vocabulary of the same model.
  texts_ = byte_texts({"<end>", "ab"}, {256});
  compiler().compile(6, 1, regex("a"));
  wait_for(1);
  EXPECT_EQ(gate_.arrived(), 5);
}

TEST_F(GrammarCompilerTest, AThrowIsTheRequestsError) {
  options_.before_build = [] { throw std::bad_alloc(); };
  compiler().compile(1, 0, regex("a"));
  EXPECT_TRUE(code(wait_for(1)[0]));
}

TEST_F(GrammarCompilerTest, AGrammarNeedsAVocabulary) {
  EXPECT_THROW(compiler().compile(1, 0, {GrammarSyntax::regex, "a", nullptr}), CheckFailure);
  texts_ = std::make_shared<const TokenTexts>(TokenTexts{{0, 7}, {'a'}, {0}, {}});
  compiler().compile(2, 0, regex("a"));
  EXPECT_EQ(code(wait_for(1)[0]), ErrorCode::invalid_tokenizer);
}

}  // namespace
}  // namespace cortex

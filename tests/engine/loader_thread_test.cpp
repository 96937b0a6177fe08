#include "engine/loader_thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "fakes/fake_backend.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

class LoaderThreadTest : public testing::Test {
 protected:
  LoadAnswers answers() {
    return {[this](std::size_t model, double fraction) { progress_.send({model, fraction}); },
            [this](std::size_t model, LoadOutcome outcome) { outcomes_.send({model, std::move(outcome)}); }};
  }
  // The next outcome: whose, and its error's code.
  std::pair<std::size_t, std::optional<ErrorCode>> next() {
    auto outcome = outcomes_.receive_for(20s);
    if (!outcome) throw std::runtime_error("no answer");
    const auto* error = std::get_if<Error>(&outcome->second);
    return {outcome->first, error == nullptr ? std::nullopt : std::optional(error->code())};
  }

  FakeSwitches switches_;
  Channel<std::pair<std::size_t, double>> progress_;
  Channel<std::pair<std::size_t, LoadOutcome>> outcomes_;
  ModelLoader loader_{"fake", {}, false, open_fake_model, [this](std::string_view name, const BackendOptions&) {
                        return std::make_unique<FakeBackend>(std::string(name), &switches_);
                      }};
};

TEST_F(LoaderThreadTest, LoadsOneAfterAnotherAndTellsHowFarItIs) {
  switches_.load_ms = 20;
  LoaderThread thread(&loader_, answers());
  thread.load(4, {"m", "decoder"}, {});
  thread.load(2, {"e", "encoder"}, {});
  EXPECT_EQ(next(), std::pair(std::size_t{4}, std::optional<ErrorCode>()));
  EXPECT_EQ(next(), std::pair(std::size_t{2}, std::optional<ErrorCode>()));
  double last = 0.0;
  std::vector<std::size_t> models;
  while (const auto told = progress_.try_receive()) {
    if (models.empty() || models.back() != told->first) {
      models.push_back(told->first);
      last = 0.0;
    }
    EXPECT_GT(told->second, last);
    last = told->second;
  }
  EXPECT_THAT(models, ElementsAre(4, 2));
}

TEST_F(LoaderThreadTest, WhatGoesWrongIsTheAnswerAndTheNextLoadWorks) {
  switches_.fail_load = true;
  LoaderThread thread(&loader_, answers());
  thread.load(0, {"m", "decoder"}, {});
  EXPECT_EQ(next().second, ErrorCode::weights_io_error);
  switches_.fail_load = false;
  thread.load(0, {"m", "decoder"}, {});
  EXPECT_EQ(next().second, std::nullopt);
  EXPECT_FALSE(thread.lost_an_answer());
}

TEST_F(LoaderThreadTest, ALoadIsGivenUpAtTheEnd) {
  switches_.load_ms = 60000;
  const auto begin = std::chrono::steady_clock::now();
  {
    LoaderThread thread(&loader_, answers());
    thread.load(0, {"m", "decoder"}, {});
    thread.load(1, {"m", "decoder"}, {});
    ASSERT_TRUE(progress_.receive_for(20s));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 10s);
  EXPECT_EQ(next(), std::pair(std::size_t{0}, std::optional(ErrorCode::engine_unavailable)));
  EXPECT_EQ(outcomes_.size(), 0u);
  EXPECT_EQ(switches_.loaded, 0);
}

TEST_F(LoaderThreadTest, AnAnswerThatCanNotBeGivenIsNoticedOnce) {
  LoadAnswers broken = answers();
  broken.loaded = [](std::size_t, const LoadOutcome&) { throw std::bad_alloc(); };
  LoaderThread thread(&loader_, broken);
  thread.load(0, {"m", "decoder"}, {});
  while (!thread.lost_an_answer()) std::this_thread::yield();
  EXPECT_FALSE(thread.lost_an_answer());
}

}  // namespace
}  // namespace cortex

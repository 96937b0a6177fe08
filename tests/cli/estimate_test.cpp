#include "cli/estimate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "fakes/temporary_folder.h"
#include "fakes/test_paths.h"

namespace cortex {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class EstimateTest : public testing::Test {
 protected:
  EstimateTest() {
    fs::create_directories(root() / "hub");
    fs::create_directories(root() / "elsewhere");
    fs::copy(llama(), root() / "hub" / "tiny", fs::copy_options::recursive);
    fs::copy(llama(), root() / "elsewhere" / "tiny", fs::copy_options::recursive);
    fs::create_directory_symlink(root() / "elsewhere" / "tiny", root() / "hub" / "way-out");
    fs::create_directory_symlink(root() / "hub" / "tiny", root() / "hub" / "way-around");
  }

  fs::path root() const { return folder_.path(); }
  static fs::path llama() { return test_data("models/llama"); }
  ModelPlaces places() const { return {root() / "hub", root() / "packaged"}; }

  fs::path find(const std::string& text) const {
    return find_askable_model(real_file_system(), places(), {{"mine", (root() / "elsewhere" / "tiny").string()}}, text);
  }
  std::optional<ErrorCode> refusal(const std::string& text) const {
    try {
      find(text);
      return std::nullopt;
    } catch (const Error& error) {
      EXPECT_EQ(error.param(), "model");
      // It repeats what was asked, and says nothing else of where things are.
      if (!text.starts_with('/')) {
        EXPECT_EQ(error.message().find(root().string()), std::string::npos);
      }
      return error.code();
    }
  }

  TemporaryFolder folder_;
};

TEST_F(EstimateTest, FindsWhatIsConfiguredOrKept) {
  EXPECT_EQ(find("mine"), root() / "elsewhere" / "tiny");
  EXPECT_EQ(find("tiny"), root() / "hub" / "tiny");
  EXPECT_EQ(find((root() / "hub" / "tiny").string()), root() / "hub" / "tiny");
  EXPECT_EQ(find("way-around"), root() / "hub" / "way-around");
}

TEST_F(EstimateTest, NothingElsewhereCanBeAskedAbout) {
  for (const std::string& text :
       {std::string("../elsewhere/tiny"), (root() / "elsewhere" / "tiny").string(), std::string("/etc/passwd"),
        std::string("tiny/../../elsewhere/tiny"), (root() / "hub/../elsewhere/tiny").string(), std::string("way-out"),
        (root() / "hub" / "way-out").string(), std::string("way-out/model.safetensors"), std::string(".."),
        std::string("/"), root().string(), (root() / "hub").string(), (root() / "hub-of-another").string(),
        std::string("tiny\0x", 6)}) {
    EXPECT_EQ(refusal(text), ErrorCode::invalid_value) << text;
  }
}

TEST_F(EstimateTest, WhatIsNotThereIsNotFound) {
  EXPECT_EQ(refusal("nobody"), ErrorCode::model_not_found);
  EXPECT_EQ(refusal("org/nobody"), ErrorCode::model_not_found);
  EXPECT_EQ(refusal((root() / "hub" / "nobody").string()), ErrorCode::model_not_found);
}

EngineOptions cpu_engine() {
  EngineOptions engine;
  engine.backend = "cpu";
  engine.models = {{"chat", test_data("models/llama").string()}, {"embed", test_data("models/bert-mean").string()}};
  return engine;
}

TEST_F(EstimateTest, TellsWhatAModelTakes) {
  const EstimateMemory estimate = memory_estimator(real_file_system(), places(), cpu_engine(), 1000);
  const MemoryEstimate chat = estimate({"chat", std::nullopt, std::nullopt});
  EXPECT_TRUE(chat.fits);
  EXPECT_GT(chat.weight_bytes, 0u);
  EXPECT_GT(chat.kv_bytes, 0u);
  EXPECT_GT(chat.blocks, 0);
  EXPECT_GT(chat.grammar_bytes, 0u);
  EXPECT_EQ(chat.cache_bytes, 0u);
  EXPECT_GE(chat.budget_bytes, chat.total_bytes());
  EXPECT_EQ(chat.weights, "as_given");
  EXPECT_FALSE(chat.streaming);
  const MemoryEstimate several = estimate({"chat", 512, 4});
  EXPECT_EQ(several.blocks, 4 * 512 / 16);
  const MemoryEstimate embed = estimate({"embed", std::nullopt, std::nullopt});
  EXPECT_EQ(embed.blocks, 0);
  EXPECT_EQ(embed.kv_bytes, 0u);
  EXPECT_EQ(embed.grammar_bytes, 0u);
  EXPECT_EQ(embed.cache_bytes, 1000u);
}

TEST_F(EstimateTest, ASmallBudgetComesWithAdvice) {
  EngineOptions engine = cpu_engine();
  engine.memory_bytes = 1;
  const MemoryEstimate none = memory_estimator(real_file_system(), places(), engine, 0)({"chat", {}, {}});
  EXPECT_FALSE(none.fits);
  EXPECT_EQ(none.budget_bytes, 1u);
  ASSERT_FALSE(none.advice.empty());
  EXPECT_THAT(none.advice.front(), HasSubstr("--memory-budget "));
  engine.memory_bytes = std::uint64_t{1} << 40;
  const MemoryEstimate plenty = memory_estimator(real_file_system(), places(), engine, 0)({"chat", {}, {}});
  EXPECT_TRUE(plenty.fits);
  EXPECT_TRUE(plenty.advice.empty());
}

TEST_F(EstimateTest, AdvisesNothingThatIsSoAlready) {
  EngineOptions engine = cpu_engine();
  const auto estimate = [&](std::uint64_t budget_bytes) {
    engine.memory_bytes = budget_bytes;
    return memory_estimator(real_file_system(), places(), engine, 0)({"chat", {}, {}});
  };
  const MemoryPlan whole = estimate_memory(llama(), {.may_stream = false}).plan.value();
  const MemoryEstimate fewer_grammars = estimate(whole.least_bytes() + (std::uint64_t{28} << 20));
  EXPECT_LT(fewer_grammars.total_bytes(), whole.total_bytes());
  EXPECT_THAT(fewer_grammars.advice, IsEmpty());
  EXPECT_THAT(estimate(whole.least_bytes()).advice, IsEmpty());
  const std::uint64_t mebibytes = (whole.least_bytes() + (1 << 20) - 1) >> 20;
  EXPECT_THAT(estimate(whole.least_bytes() - 1).advice,
              ElementsAre("--memory-budget " + std::to_string(mebibytes) + "MiB: " + to_text(whole)));
}

TEST_F(EstimateTest, WithoutABudgetGrammarsHaveWhatTheRestLeaves) {
  const MemoryPlan whole = estimate_memory(llama(), {}).plan.value();
  EXPECT_EQ(estimate_model(llama(), {}, whole.total_bytes()).total_bytes(), whole.total_bytes());
  for (const std::uint64_t more : {0, 1, 1 << 20}) {
    const MemoryEstimate fits = estimate_model(llama(), {}, whole.least_bytes() + more);
    EXPECT_TRUE(fits.fits) << more;
    EXPECT_EQ(fits.total_bytes(), whole.least_bytes() + more);
  }
  const MemoryEstimate none = estimate_model(llama(), {}, whole.least_bytes() - 1);
  EXPECT_FALSE(none.fits);
  EXPECT_EQ(none.total_bytes(), whole.least_bytes());
}

TEST_F(EstimateTest, GrammarsAreForWhatIsServedToChat) {
  EngineOptions engine = cpu_engine();
  engine.models.front().kind = ModelKind::embed;
  EXPECT_EQ(memory_estimator(real_file_system(), places(), engine, 0)({"chat", {}, {}}).grammar_bytes, 0u);
}

TEST_F(EstimateTest, WhatIsNoModelSaysNoMore) {
  fs::create_directories(root() / "hub" / "broken");
  folder_.write("hub/broken/config.json", "{");
  folder_.write("hub/broken/model.safetensors", "x");
  const EstimateMemory estimate = memory_estimator(real_file_system(), places(), cpu_engine(), 0);
  try {
    estimate({"broken", {}, {}});
    ADD_FAILURE() << "it was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::model_failed);
    EXPECT_EQ(error.message().find(root().string()), std::string::npos);
  }
  EXPECT_THROW(estimate({"chat", 100'000, {}}), Error);
}

}  // namespace
}  // namespace cortex

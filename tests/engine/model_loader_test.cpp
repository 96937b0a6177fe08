#include "engine/model_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/fake_backend.h"
#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

using testing::ElementsAre;

class ModelLoaderTest : public testing::Test {
 protected:
  // "auto" is the cpu; each backend lacks what `lacks_` says.
  ModelLoader loader(const std::string& backend) {
    return ModelLoader(backend, {}, false, open_fake_model, [this](std::string_view name, const BackendOptions&) {
      opened_.emplace_back(name);
      const std::string real = name == "auto" ? "cpu" : std::string(name);
      if (real == missing_) throw Error(ErrorCode::invalid_option, "backend " + real + ": no module");
      return std::make_unique<FakeBackend>(real, &switches_, lacks_[real]);
    });
  }

  static LoadedModel load(ModelLoader* loader, const std::string& path = "decoder") {
    return loader->load({"m", path}, [](double) {});
  }

  std::string failure(const std::string& backend) {
    auto made = loader(backend);
    try {
      load(&made);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::model_failed);
      return error.message();
    }
    return "none";
  }

  FakeSwitches switches_;
  std::map<std::string, std::optional<std::string>> lacks_;
  std::string missing_;
  std::vector<std::string> opened_;
};

TEST_F(ModelLoaderTest, OpensABackendOnceForAllModels) {
  auto made = loader("cpu");
  const LoadedModel decoder = load(&made);
  const LoadedModel encoder = load(&made, "encoder");
  EXPECT_THAT(opened_, ElementsAre("cpu"));
  EXPECT_EQ(decoder.backend, "cpu");
  EXPECT_EQ(decoder.device, "fake");
  EXPECT_TRUE(decoder.decoder && !decoder.encoder);
  EXPECT_TRUE(encoder.encoder && !encoder.decoder);
  EXPECT_EQ(decoder.limits.vocabulary, kFakeVocabulary);
  EXPECT_EQ(encoder.limits.context_tokens, kFakeContext);
  EXPECT_EQ(encoder.limits.token_types, 2);
}

TEST_F(ModelLoaderTest, AutoFallsBackToABackendThatLacksNothing) {
  lacks_["cpu"] = "soft caps";
  auto made = loader("auto");
  EXPECT_EQ(load(&made).backend, "mlx");
}

TEST_F(ModelLoaderTest, SaysWhatEachBackendLacks) {
  lacks_["cpu"] = "soft caps";
  lacks_["mlx"] = "experts";
  EXPECT_EQ(failure("auto"), "backend cpu lacks soft caps; backend mlx lacks experts");
  missing_ = "mlx";
  EXPECT_EQ(failure("auto"), "backend cpu lacks soft caps; backend mlx: no module");
}

TEST_F(ModelLoaderTest, ANamedBackendHasNoSubstitute) {
  lacks_["cpu"] = "soft caps";
  EXPECT_EQ(failure("cpu"), "backend cpu lacks soft caps");
  EXPECT_THAT(opened_, ElementsAre("cpu"));
}

// The fake decoder's weights are 2000 bytes, its blocks 64, its rows 2; the fake encoder takes 1002, with fewer bits
// 502.
class LoadTermsTest : public ModelLoaderTest {
 protected:
  static constexpr std::uint64_t kBlock = kFakeBlockBytes;
  static constexpr std::uint64_t kContextBlocks = kFakeContext / kBlockTokens;

  LoadedModel load_within(std::uint64_t bytes, LoadTerms terms = {}) {
    auto made = loader("cpu");
    terms.memory_bytes = bytes;
    return made.load({"m", "decoder"}, terms, [](double) {});
  }
};

TEST_F(LoadTermsTest, WithoutALimitHaveAllThatIsWanted) {
  auto made = loader("cpu");
  const MemoryPlan plan = load(&made).plan;
  EXPECT_EQ(plan.kv_blocks, kDefaultKvSequences * static_cast<int>(kContextBlocks));
  EXPECT_EQ(plan.rows_per_step, 512);
  EXPECT_EQ(plan.total_bytes(), 2000 + 1024 + 8 * kContextBlocks * kBlock + plan.grammar_bytes());
  EXPECT_EQ(plan.grammar_cache_bytes, kMostGrammarCacheBytes);
  const ModelConfig embeds{.name = "m", .path = "decoder", .kind = ModelKind::embed};
  EXPECT_EQ(made.load(embeds, [](double) {}).plan.grammar_bytes(), 0u) << "which takes no grammars";
  EXPECT_EQ(switches_.resident_layers, kAllLayers);
  const LoadedModel limited = made.load({"m", "decoder"}, {.kv_bytes = 5 * kBlock, .rows_per_step = 100}, {});
  EXPECT_EQ(limited.plan.kv_blocks, 5);
  EXPECT_EQ(limited.plan.rows_per_step, 100);
}

TEST_F(LoadTermsTest, ALimitIsKept) {
  EXPECT_EQ(load_within(2000 + 1024 + kContextBlocks * kBlock).plan.kv_blocks, static_cast<int>(kContextBlocks));
  const MemoryPlan narrow = load_within(1000 + 128 + kContextBlocks * kBlock).plan;
  EXPECT_EQ(narrow.weights, WeightPrecision::bits_8);
  EXPECT_EQ(narrow.rows_per_step, 64);
}

TEST_F(LoadTermsTest, WhatDoesNotFitIsRefusedWithWhatItNeeds) {
  const auto refusal = [&](std::uint64_t bytes) -> std::string {
    try {
      load_within(bytes);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::request_cannot_fit);
      return error.message();
    }
    return "none";
  };
  const std::uint64_t least = 1000 + 128 + 16 * kBlock;
  EXPECT_EQ(refusal(least), "none");
  EXPECT_THAT(refusal(least - 1), testing::HasSubstr("--memory-budget 1MiB"));
  EXPECT_EQ(switches_.loaded, 0);
}

TEST_F(LoadTermsTest, OthersThatAreToComeFindRoom) {
  const LoadTerms with_encoder{.others = {{"e", "encoder"}}};
  const std::uint64_t own = 2000 + 1024 + kContextBlocks * kBlock;
  EXPECT_EQ(load_within(own + 1002 + kBlock, with_encoder).plan.kv_blocks, static_cast<int>(kContextBlocks) + 1);
  // At least what they can't do without.
  const MemoryPlan narrow = load_within(1000 + 128 + kContextBlocks * kBlock + 502, with_encoder).plan;
  EXPECT_EQ(narrow.weights, WeightPrecision::bits_8);
  EXPECT_LE(narrow.total_bytes(), 1000 + 128 + kContextBlocks * kBlock);
  // But the first has its own whatever they need.
  EXPECT_EQ(load_within(1000 + 128 + 16 * kBlock, with_encoder).plan.kv_blocks, 16);
}

TEST_F(LoadTermsTest, AWholeModelHasAllItsBitsOrIsRefused) {
  const std::uint64_t trie = load_within(std::uint64_t{1} << 40).plan.trie_bytes;
  const std::uint64_t whole = 2000 + 128 + kContextBlocks * kBlock + trie + kLeastGrammarCacheBytes;
  EXPECT_EQ(load_within(whole, {.whole = true}).plan.weights, WeightPrecision::as_given);
  EXPECT_THROW(load_within(whole - 1, {.whole = true}), Error);
  EXPECT_EQ(load_within(whole - 1).plan.weights, WeightPrecision::bits_8);
}

}  // namespace
}  // namespace cortex

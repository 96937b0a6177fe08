#include "engine/model_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/fake_backend.h"

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

}  // namespace
}  // namespace cortex

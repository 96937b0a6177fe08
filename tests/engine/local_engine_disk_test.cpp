#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "engine/local_engine.h"
#include "fakes/collected_events.h"
#include "fakes/fake_backend.h"
#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

using namespace std::chrono_literals;

// Engines one after another over one folder, as if a server were started again.
class LocalEngineDiskTest : public testing::Test {
 protected:
  LocalEngineDiskTest() {
    folder_.write("model.gguf", "weights");
    options_.models = {{"m", "decoder"}};
    options_.backend = "fake";
    options_.kv_dir = folder_.path() / "kv";
    options_.kv_disk_free_bytes = 0;
    options_.open_model = [this](const ModelConfig& config) {
      Model model = open_fake_model(config);
      model.path = folder_.path() / "model.gguf";
      return model;
    };
    options_.open_backend = [this](std::string_view name, const BackendOptions&) {
      return std::make_unique<FakeBackend>(std::string(name), &switches_);
    };
  }

  void start() {
    engine_.reset();  // it has the folder until it is gone
    engine_ = std::make_unique<LocalEngine>(options_);
    wait_for([](const EngineStatus& status) { return !status.kv_disk.scanning; });
  }
  template <typename Condition>
  void wait_for(const Condition& condition) {
    for (int i = 0; i < 5000; ++i) {
      if (condition(engine_->status())) return;
      std::this_thread::sleep_for(2ms);
    }
    FAIL() << "the status never came";
  }
  void wait_for_files(std::uint64_t files) {
    wait_for([&](const EngineStatus& status) { return status.kv_disk.files == files && status.kv_blocks_used == 0; });
  }

  static std::vector<TokenId> prompt_of(int tokens) {
    std::vector<TokenId> prompt;
    for (int i = 0; i < tokens; ++i) prompt.push_back(200 + i * 7 % 300);
    return prompt;
  }
  // What was found of the prompt; the reply is checked.
  GenerateTimings ask(RequestId id, int prompt_tokens, const std::string& salt = "key") {
    GenerateRequest request;
    request.id = id;
    request.model = "m";
    request.prompt = prompt_of(prompt_tokens);
    request.max_tokens = 20;
    request.salt = salt;
    request.explain = true;
    CollectedEvents events;
    engine_->generate(request, events.sink());
    events.wait();
    EXPECT_EQ(events.tokens(), fake_reply(prompt_of(prompt_tokens), 20));
    return events.events().back().timings.value();
  }

  const TemporaryFolder folder_;
  FakeSwitches switches_;
  LocalEngineOptions options_;
  std::unique_ptr<LocalEngine> engine_;
};

TEST_F(LocalEngineDiskTest, APromptSurvivesARestart) {
  start();
  EXPECT_EQ(ask(1, 400).cached_tokens, 0);
  wait_for_files(2);  // 416 tokens computed but one: 25 blocks, in runs of 16 and 9
  const GenerateTimings warm = ask(2, 400);
  EXPECT_EQ(warm.cached_tokens, 384);
  EXPECT_EQ(warm.cached_disk_tokens, 0);
  start();
  const GenerateTimings restored = ask(1, 400);
  EXPECT_EQ(restored.cached_tokens, 384);
  EXPECT_EQ(restored.cached_disk_tokens, 384);
  EXPECT_FALSE(restored.cache->miss);
  const EngineStatus status = engine_->status();
  EXPECT_EQ(status.kv_disk.state, "ok");
  EXPECT_GT(status.kv_disk.read_bytes, 0u);
}

TEST_F(LocalEngineDiskTest, WhatEndsWithTheEngineIsWrittenFirst) {
  start();
  ask(1, 400);
  start();  // at once: what was pending is flushed
  EXPECT_EQ(ask(1, 400).cached_disk_tokens, 384);
}

TEST_F(LocalEngineDiskTest, OtherWeightsOrAnotherSaltFindNothing) {
  start();
  ask(1, 400);
  wait_for_files(2);
  start();
  EXPECT_EQ(ask(1, 400, "other").cached_tokens, 0);
  folder_.write("model.gguf", "weights of another training");
  start();
  EXPECT_EQ(ask(1, 400).cached_tokens, 0);
}

TEST_F(LocalEngineDiskTest, ASecondEngineOnTheFolderGoesWithout) {
  start();
  ask(1, 100);
  LocalEngine second(options_);
  for (int i = 0; i < 5000 && second.status().kv_disk.state != "off"; ++i) std::this_thread::sleep_for(2ms);
  EXPECT_EQ(second.status().kv_disk.state, "off");
  EXPECT_FALSE(second.status().kv_disk.message.empty());
  CollectedEvents events;
  GenerateRequest request;
  request.id = 1;
  request.model = "m";
  request.prompt = prompt_of(100);
  request.max_tokens = 5;
  second.generate(request, events.sink());
  events.wait();
  EXPECT_EQ(events.tokens(), fake_reply(prompt_of(100), 5));
}

TEST_F(LocalEngineDiskTest, SpoiltFilesAreComputedAgain) {
  start();
  const auto spoil = [&] {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_.path() / "kv")) {
      if (entry.path().extension() != ".kv") continue;
      const auto name = std::filesystem::relative(entry.path(), folder_.path());
      std::string bytes = folder_.read(name);
      bytes[bytes.size() - 3] = static_cast<char>(bytes[bytes.size() - 3] ^ 1);
      folder_.write(name, bytes);
    }
  };
  ask(1, 400);
  wait_for_files(2);
  engine_.reset();
  spoil();
  start();
  EXPECT_LT(ask(1, 400).cached_disk_tokens, 384);
  EXPECT_FALSE(engine_->status().kv_disk.rejected.empty());
}

TEST_F(LocalEngineDiskTest, WhatCanNotBeSpilledFailsNoRequest) {
  start();
  switches_.fail_reads = true;
  ask(1, 400);
  wait_for([](const EngineStatus& status) { return status.kv_blocks_used == 0; });
  EXPECT_EQ(engine_->status().kv_disk.files, 0u);
  switches_.fail_reads = false;
  EXPECT_EQ(ask(2, 400).cached_tokens, 384) << "memory has it all the same";
  ask(3, 200, "another");
  wait_for([](const EngineStatus& status) { return status.kv_disk.files > 0; });
}

TEST_F(LocalEngineDiskTest, WhatCanNotBeRestoredIsComputed) {
  start();
  ask(1, 400);
  wait_for_files(2);
  start();
  switches_.fail_writes = true;
  const GenerateTimings computed = ask(1, 400);
  EXPECT_EQ(computed.cached_disk_tokens, 0);
  EXPECT_EQ(ask(2, 400).cached_tokens, 384);
  start();
  switches_.fail_writes = false;
  EXPECT_EQ(ask(1, 400).cached_disk_tokens, 384);
}

}  // namespace
}  // namespace cortex

// What a sequence says does not depend on how its keys and values were come by: computed at once or in chunks, found in
// memory, read from disk after a restart, computed again after a preemption, beside others. On the native backend bit
// for bit, greedy and with a seed; on MLX, whose products depend on how many rows there are, the same tokens where the
// choice is clear.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <thread>

#include "backend/backends.h"
#include "backend/golden.h"
#include "engine/local_engine.h"
#include "fakes/collected_events.h"
#include "fakes/reply.h"
#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

constexpr int kPromptTokens = 75, kReplyTokens = 40;

struct Case {
  std::string model, backend;
};

class SameTokensTest : public testing::TestWithParam<Case> {
 protected:
  SameTokensTest() {
    options_.models = {{"m", golden_model(GetParam().model).string()}};
    options_.threads = 2;
    options_.exact = GetParam().backend == "cpu_exact";
    options_.backend = options_.exact ? "cpu" : GetParam().backend;
    options_.kv_dir = folder_.path() / "kv";
    options_.kv_disk_free_bytes = 0;
    options_.open_backend = [](std::string_view, const BackendOptions& options) {
      return open_tested(GetParam().backend, options.threads);
    };
  }

  // Prompts of one model; those of one dialogue begin alike.
  static std::vector<TokenId> prompt(int dialogue, int tokens = kPromptTokens) {
    std::vector<TokenId> prompt;
    for (int i = 0; i < tokens; ++i) prompt.push_back(static_cast<TokenId>(3 + (i * 37 + dialogue * 101 + i * i) % 90));
    return prompt;
  }
  static GenerateRequest ask(RequestId id, int dialogue, float temperature) {
    GenerateRequest request;
    request.id = id;
    request.model = "m";
    request.prompt = prompt(dialogue);
    request.max_tokens = kReplyTokens;
    request.logprobs = true;
    request.sampling = {.temperature = temperature, .seed = 11};
    return request;
  }
  static Reply run(LocalEngine* engine, RequestId id, int dialogue, float temperature) {
    CollectedEvents events;
    engine->generate(ask(id, dialogue, temperature), events.sink());
    return reply_of(&events);
  }
  // Of an engine that never sees anything else.
  Reply alone(int dialogue, float temperature) {
    LocalEngineOptions options = options_;
    options.kv_dir.clear();
    LocalEngine engine(options);
    return run(&engine, 1, dialogue, temperature);
  }
  void expect_same(const Reply& reply, const Reply& expected) const {
    EXPECT_EQ(reply.tokens, expected.tokens);
    if (GetParam().backend == "mlx") {
      EXPECT_LT(worst_difference(reply.logprobs, expected.logprobs), 1e-3);
    } else {
      EXPECT_EQ(reply.logprobs, expected.logprobs);
    }
  }

  const TemporaryFolder folder_;
  LocalEngineOptions options_;
};

std::vector<Case> cases() {
  std::vector<Case> cases;
  for (const std::string& backend : tested_backends()) {
    for (const char* model : {"llama", "gemma3", "qwen3-moe"}) cases.push_back({model, backend});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Models, SameTokensTest, testing::ValuesIn(cases()), [](const auto& info) {
  std::string name = info.param.model + "_" + info.param.backend;
  std::ranges::replace(name, '-', '_');
  return name;
});

TEST_P(SameTokensTest, WarmInMemoryAndFromDisk) {
  for (const float temperature : {0.0f, 0.8f}) {
    const Reply expected = alone(1, temperature);
    {
      LocalEngine engine(options_);
      run(&engine, 1, 1, temperature);
      const Reply warm = run(&engine, 2, 1, temperature);
      EXPECT_EQ(warm.timings.cached_tokens, 64);
      EXPECT_EQ(warm.timings.cached_disk_tokens, 0);
      expect_same(warm, expected);
    }
    LocalEngine engine(options_);
    while (engine.status().kv_disk.scanning) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const Reply restored = run(&engine, 1, 1, temperature);
    EXPECT_EQ(restored.timings.cached_disk_tokens, 64);
    expect_same(restored, expected);
    options_.kv_dir += "-next";
  }
}

TEST_P(SameTokensTest, InChunks) {
  options_.rows_per_step = 20;
  options_.max_sequences = 4;
  LocalEngine engine(options_);
  for (const float temperature : {0.0f, 0.8f}) {
    LocalEngineOptions options = options_;
    options.rows_per_step = 512;
    options.kv_dir.clear();
    LocalEngine whole(options);
    const int dialogue = temperature > 0.0f ? 2 : 1;
    expect_same(run(&engine, static_cast<RequestId>(dialogue), dialogue, temperature),
                run(&whole, 1, dialogue, temperature));
  }
}

// Sixteen at once, in a pool that holds some of them: steps are mixed, prompts are found, sequences are preempted.
TEST_P(SameTokensTest, BesideFifteenOthersInLittleRoom) {
  std::vector<Reply> expected;
  for (int i = 0; i < 4; ++i) expected.push_back(alone(i, i % 2 == 0 ? 0.0f : 0.8f));
  const auto backend = open_tested(GetParam().backend);
  const Model model = open_model(real_file_system(), golden_model(GetParam().model));
  const auto& network = std::get<DecoderModel>(model.network);
  options_.kv_bytes = 24 * backend->load(network.spec, network.weights, {})->kv_geometry().block_bytes;
  LocalEngine engine(options_);
  std::deque<CollectedEvents> events(16);
  for (std::size_t i = 0; i < 16; ++i) {
    const float temperature = i % 2 == 0 ? 0.0f : 0.8f;
    engine.generate(ask(i + 1, static_cast<int>(i % 4), temperature), events[i].sink());
  }
  for (std::size_t i = 0; i < 16; ++i) {
    SCOPED_TRACE(i);
    expect_same(reply_of(&events[i]), expected[i % 4]);
  }
  EXPECT_GT(engine.status().models.front().kv.preemptions, 0u);
}

}  // namespace
}  // namespace cortex

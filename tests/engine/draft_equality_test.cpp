// What is said with drafts is what is said without, to the last bit of every log-probability: of hundreds of requests
// of every kind, in batches, in chunks, in a pool that is too small, with prompts that are found in memory and on disk
// after a restart, with grammars and with predictions; and what is sampled with drafts has the model's own
// distribution. On the native backend, whose rows don't depend on each other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <numeric>
#include <random>
#include <thread>

#include "backend/backends.h"
#include "backend/golden.h"
#include "engine/local_engine.h"
#include "engine/scheduler.h"
#include "engine/suffix_drafter.h"
#include "fakes/collected_events.h"
#include "fakes/fake_clock.h"
#include "fakes/reply.h"
#include "fakes/temporary_folder.h"
#include "fakes/token_texts.h"
#include "model/model.h"

namespace cortex {
namespace {

constexpr int kRequests = 200;

struct Case {
  std::string model;
  bool exact;
};

class DraftEqualityTest : public testing::TestWithParam<Case> {
 protected:
  DraftEqualityTest() {
    options_.models = {{"m", golden_model(GetParam().model).string()}};
    options_.backend = "cpu";
    options_.exact = GetParam().exact;
    options_.threads = 2;
    // All steps take as long, whatever is in them: rows cost nothing, and drafts ride wherever there are any.
    options_.clock = &clock_;
    options_.failpoint = [this](std::string_view phase, std::span<const TokenId>) {
      if (phase == "prompt" || phase == "decode") clock_.advance(std::chrono::milliseconds(1));
    };
    options_.rows_per_step = 64;  // prompts come in chunks
    options_.max_sequences = 12;
    options_.kv_disk_free_bytes = 0;
    const Model model = open_model(real_file_system(), golden_model(GetParam().model));
    const auto& network = std::get<DecoderModel>(model.network);
    vocabulary_ = network.spec.vocabulary;
    const auto backend = open_backend("cpu", {.threads = 1, .exact = GetParam().exact});
    options_.kv_bytes = 40 * backend->load(network.spec, network.weights, {})->kv_geometry().block_bytes;
    const std::string tokenizer =
        real_file_system().read_text(golden_model(GetParam().model) / "tokenizer.json", 64 << 20);
    texts_ = token_texts_of(Tokenizer::from_json(tokenizer), {2});
  }

  // Of four dialogues, so that prompts have beginnings in common.
  std::vector<TokenId> prompt_of(std::mt19937* random) const {
    const auto dialogue = static_cast<int>((*random)() % 4);
    const auto tokens = 1 + static_cast<int>((*random)() % 90);
    std::vector<TokenId> prompt;
    for (int i = 0; i < tokens; ++i) {
      prompt.push_back(3 + (i % 23 * 37 + dialogue * 101 + i % 7 * i % 7) % (vocabulary_ - 3));
    }
    if ((*random)() % 2 == 0) prompt.back() = 3 + static_cast<TokenId>((*random)() % 90);
    return prompt;
  }

  Grammar grammar() const { return {GrammarSyntax::regex, "([a-f]{2,9}(, | and )){1,9}end", texts_}; }

  // While nothing else runs, and time stands still.
  void compile_grammar(LocalEngine* engine) const {
    GenerateRequest request = request_of(0);
    request.id = 1'000'000;
    request.grammar = grammar();
    CollectedEvents events;
    engine->generate(std::move(request), events.sink());
    reply_of(&events);
  }

  GenerateRequest request_of(int number) const {
    std::mt19937 random(static_cast<unsigned>(number));
    GenerateRequest request;
    request.id = static_cast<RequestId>(number) + 1;
    request.model = "m";
    request.prompt = prompt_of(&random);
    request.max_tokens = 1 + static_cast<int>(random() % 40);
    request.logprobs = random() % 2 == 0;
    request.top_logprobs = 3;
    request.priority = static_cast<int>(random() % 3) - 1;
    if (random() % 3 == 0) request.salt = "other";
    SamplingParams& sampling = request.sampling;
    sampling.temperature = random() % 2 == 0 ? 0.0f : 0.8f;
    sampling.seed = random();
    if (random() % 3 == 0) sampling.top_p = 0.9f;
    if (random() % 4 == 0) sampling.top_k = 12;
    if (random() % 4 == 0) sampling.min_p = 0.05f;
    if (random() % 3 == 0) sampling.frequency_penalty = 0.6f;
    if (random() % 3 == 0) sampling.presence_penalty = -0.4f;
    if (random() % 3 == 0) sampling.repetition_penalty = 1.2f;
    if (random() % 3 == 0) request.logit_bias = {{5, 3.0f}, {7, -100.0f}};
    for (unsigned i = random() % 4; i > 0; --i) request.stop_ids.push_back(static_cast<TokenId>(random() % 300));
    if (random() % 4 == 0) {
      request.grammar = grammar();
      request.stop_ids.push_back(2);
    }
    return request;
  }

  // Two lives of an engine over the same folder, half of the requests at once in each. `told` is what the replies are
  // to be, for predictions that are nearly right.
  std::vector<Reply> replies(bool speculation, const std::vector<Reply>& told, EngineStatus* ends) {
    const TemporaryFolder folder;
    options_.speculation = speculation;
    options_.kv_dir = folder.path() / "kv";
    std::vector<Reply> replies;
    for (int life = 0; life < 2; ++life) {
      LocalEngine engine(options_);
      while (engine.status().kv_disk.scanning) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      compile_grammar(&engine);
      std::deque<CollectedEvents> events(kRequests / 2);
      for (int i = 0; i < kRequests / 2; ++i) {
        const int number = life * kRequests / 2 + i;
        GenerateRequest request = request_of(number);
        if (!told.empty() && number % 2 == 0) {
          request.prediction = told[static_cast<std::size_t>(number)].tokens;
          for (std::size_t at = 5; at < request.prediction.size(); at += 9) request.prediction[at] = 4;
        }
        engine.generate(std::move(request), events[static_cast<std::size_t>(i)].sink());
      }
      preempt_some(&engine);
      for (CollectedEvents& each : events) replies.push_back(reply_of(&each));
      while (engine.status().state != EngineState::idle) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      ends[life] = engine.status();
    }
    return replies;
  }

  // Most of those that run stop and wait anew.
  static void preempt_some(LocalEngine* engine) {
    while (engine->status().running < 8) std::this_thread::sleep_for(std::chrono::microseconds(100));
    engine->set_budget({.sequence_share = 0.25, .preempts = true});
    while (engine->status().guard_preempted == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    engine->set_budget({});
  }

  FakeClock clock_;
  LocalEngineOptions options_;
  int vocabulary_ = 0;
  std::shared_ptr<const TokenTexts> texts_;
};

INSTANTIATE_TEST_SUITE_P(Models, DraftEqualityTest,
                         testing::Values(Case{"llama", false}, Case{"llama", true}, Case{"gemma3", false},
                                         Case{"gemma3", true}, Case{"qwen3-moe", false}, Case{"qwen3-moe", true}),
                         [](const auto& info) {
                           std::string name = info.param.model + (info.param.exact ? "_exact" : "_fast");
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

TEST_P(DraftEqualityTest, OnAndOff) {
  EngineStatus off[2], on[2];
  const std::vector<Reply> expected = replies(false, {}, off);
  const std::vector<Reply> drafted = replies(true, expected, on);
  ASSERT_EQ(drafted.size(), static_cast<std::size_t>(kRequests));
  for (std::size_t i = 0; i < drafted.size(); ++i) {
    ASSERT_EQ(drafted[i].tokens, expected[i].tokens) << i;
    ASSERT_TRUE(drafted[i] == expected[i]) << i;
  }
  for (const int life : {0, 1}) {
    EXPECT_EQ(off[life].models[0].speculation.drafted, 0u);
    const SpeculationStatus& speculation = on[life].models[0].speculation;
    EXPECT_GT(speculation.drafted, 200u);
    EXPECT_GT(speculation.accepted, 100u);
    EXPECT_GT(speculation.drafted, speculation.accepted);  // wrong ones too, or nothing would be tested
    EXPECT_GT(on[life].models[0].kv.memory_hit_tokens, 0u);
    EXPECT_GT(on[life].models[0].kv.preemptions, 0u);
  }
  EXPECT_GT(on[1].models[0].kv.disk_hit_tokens, 0u);
  EXPECT_GT(on[0].models[0].grammars.masks, 0u);
}

// Proposes one text, always.
class FixedDrafter : public Drafter {
 public:
  explicit FixedDrafter(std::vector<TokenId> tokens) : tokens_(std::move(tokens)) {}
  Draft propose(const DraftContext&, int) override { return {tokens_, DraftSource::context, 64}; }
  void finish(const DraftContext&) override {}
  void forget(std::uint64_t) noexcept override {}

 private:
  const std::vector<TokenId> tokens_;
};

constexpr float kTemperature = 0.25f;  // so that a model with random weights has likely tokens

// The golden llama.
class SampledWithDrafts {
 public:
  SampledWithDrafts() {
    const Model model = open_model(real_file_system(), golden_model("llama"));
    const auto& network = std::get<DecoderModel>(model.network);
    vocabulary = network.spec.vocabulary;
    decoder_ = backend_->load(network.spec, network.weights, {});
    decoder_->reserve_kv(kBlocks);
    for (int i = 0; i < 17; ++i) prompt.push_back(3 + i * 37 % 90);  // a block, and a row of its own
  }

  // The probability of each token behind these.
  std::vector<double> distribution(const std::vector<TokenId>& tokens) {
    const std::vector<BlockId> blocks = {0, 1, 2};
    StepPlan plan{.tokens = tokens, .slices = {{0, static_cast<int>(tokens.size()), 0, blocks}}, .wanted = {{}}};
    plan.wanted[0].row = static_cast<int>(tokens.size()) - 1;
    plan.wanted[0].logits = true;
    StepResult result;
    decoder_->submit(plan);
    decoder_->collect(&result);
    const std::vector<float>& logits = result.rows[0].logits;
    const double largest = *std::ranges::max_element(logits);
    std::vector<double> odds;
    for (const float logit : logits) odds.push_back(std::exp((logit - largest) / kTemperature));
    const double sum = std::accumulate(odds.begin(), odds.end(), 0.0);
    for (double& each : odds) each /= sum;
    return odds;
  }

  // Replies of three tokens, one a seed, drafted by `drafter`.
  std::vector<std::vector<TokenId>> sample(int count, std::unique_ptr<Drafter> drafter) {
    BlockPool pool(kBlocks);
    Scheduler scheduler({64, 8}, &pool);
    scheduler.draft_with(std::move(drafter), vocabulary);
    std::vector<std::vector<TokenId>> replies(static_cast<std::size_t>(count));
    for (int i = 0; i < count || !scheduler.idle();) {
      for (; i < count && scheduler.waiting() < 4; ++i) {
        GenerateRequest request;
        request.id = static_cast<RequestId>(i);
        request.prompt = prompt;
        request.max_tokens = 3;
        request.sampling = {.temperature = kTemperature, .seed = static_cast<std::uint64_t>(i) * 7919 + 5};
        scheduler.add(std::move(request));
      }
      StepResult result;
      decoder_->submit(scheduler.plan());
      decoder_->collect(&result);
      scheduler.measured(1.0);
      for (const SequenceEvent& event : scheduler.commit(result)) {
        for (const SampledToken& token : event.event.tokens) replies[event.id].push_back(token.token);
      }
    }
    accepted = scheduler.speculation_status().accepted;
    return replies;
  }

  int vocabulary = 0;
  std::vector<TokenId> prompt;
  std::uint64_t accepted = 0;

 private:
  static constexpr int kBlocks = 64;
  const std::unique_ptr<Backend> backend_ = open_backend("cpu", {.threads = 2});
  std::unique_ptr<DecoderBackend> decoder_;
};

// How far the counts are from the odds, in standard deviations of chi-square (Wilson and Hilferty 1931); tokens that
// are expected fewer than five times count as one.
double deviation(const std::vector<int>& counts, const std::vector<double>& odds) {
  const double all = std::accumulate(counts.begin(), counts.end(), 0.0);
  double chi_square = 0.0, rest_expected = 0.0, rest_count = 0.0;
  int classes = 0;
  const auto add = [&](double count, double expected) {
    chi_square += (count - expected) * (count - expected) / expected;
    ++classes;
  };
  for (std::size_t i = 0; i < odds.size(); ++i) {
    if (odds[i] * all >= 5.0) {
      add(counts[i], odds[i] * all);
    } else {
      rest_expected += odds[i] * all;
      rest_count += counts[i];
    }
  }
  if (rest_expected > 0.0) add(rest_count, rest_expected);
  const double freedom = classes - 1, spread = 2.0 / (9.0 * freedom);
  EXPECT_GE(classes, 5);
  return (std::cbrt(chi_square / freedom) - (1.0 - spread)) / std::sqrt(spread);
}

TEST(DraftDistribution, WhatIsSampledHasTheModelsOwn) {
  SampledWithDrafts model;
  const std::vector<double> first = model.distribution(model.prompt);
  const auto likeliest = static_cast<TokenId>(std::ranges::max_element(first) - first.begin());
  std::vector<TokenId> behind = model.prompt;
  behind.push_back(likeliest);
  const std::vector<double> second = model.distribution(behind);

  constexpr int kSamples = 12000;
  const std::vector<TokenId> drafts = {likeliest,
                                       static_cast<TokenId>(std::ranges::max_element(second) - second.begin())};
  const auto replies = model.sample(kSamples, std::make_unique<FixedDrafter>(drafts));
  EXPECT_GT(model.accepted, 200u);
  std::vector<int> firsts(first.size()), seconds(second.size());
  for (const std::vector<TokenId>& reply : replies) {
    ASSERT_EQ(reply.size(), 3u);
    ++firsts[static_cast<std::size_t>(reply[0])];
    if (reply[0] == likeliest) ++seconds[static_cast<std::size_t>(reply[1])];
  }
  EXPECT_LT(std::abs(deviation(firsts, first)), 4.0);
  EXPECT_LT(std::abs(deviation(seconds, second)), 4.0);  // in the drafts' rows
  // The test can tell: it is not the distribution of another place.
  EXPECT_GT(deviation(firsts, second), 10.0);
}

}  // namespace
}  // namespace cortex

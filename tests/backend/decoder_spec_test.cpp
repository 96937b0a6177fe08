// Whatever a DecoderSpec can say, mixed at random, on each backend that is built: against the double-precision twin,
// and the same whichever way a result is reached.
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/backends.h"
#include "backend/naive_decoder.h"
#include "backend/random_weights.h"
#include "backend/sequence_runner.h"

namespace cortex {
namespace {

constexpr double kTolerance = 5e-5;
constexpr int kReserved = 31;
constexpr int kVariants = 24;

class SpecMaker {
 public:
  explicit SpecMaker(std::mt19937& random) : random_(random) {}

  // head_dim 0: any.
  DecoderSpec decoder(int head_dim = 0) {
    DecoderSpec spec;
    spec.vocabulary = between(40, 90);
    spec.hidden = between(16, 70);
    spec.kv_heads = between(1, 3);
    spec.heads = spec.kv_heads * between(1, 4);
    spec.head_dim = head_dim != 0 ? head_dim : 2 * between(2, 24);
    spec.intermediate = between(10, 90);
    spec.context_tokens = 128;
    spec.norm_epsilon = chance() ? 1e-5f : 1e-6f;
    spec.activation = any({Activation::silu, Activation::gelu, Activation::gelu_tanh, Activation::tanh});
    spec.rope = rope(spec.head_dim);
    if (chance()) spec.window_rope = rope(spec.head_dim);
    if (chance()) spec.attention_scale = 0.17f;
    if (chance()) spec.embedding_scale = 6.5f;
    spec.query_key_norm = any({QueryKeyNorm::none, QueryKeyNorm::per_head, QueryKeyNorm::whole});
    spec.pre_norm = between(0, 2) > 0;
    spec.post_norm = !spec.pre_norm || chance();
    spec.qkv_bias = chance();
    spec.output_bias = chance();
    spec.mlp_bias = chance();
    spec.tied_head = chance();
    if (chance()) spec.experts = experts();
    for (int i = between(1, 4); i > 0; --i) spec.layers.push_back(layer(spec.experts.has_value()));
    return spec;
  }

  std::vector<TokenId> tokens(const DecoderSpec& spec, int count) {
    std::vector<TokenId> tokens;
    for (int i = 0; i < count; ++i) tokens.push_back(between(0, spec.vocabulary - 1));
    return tokens;
  }

  int between(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }

 private:
  bool chance() { return between(0, 1) == 1; }
  template <typename Value>
  Value any(std::initializer_list<Value> values) {
    return values.begin()[between(0, static_cast<int>(values.size()) - 1)];
  }

  RopeSpec rope(int head_dim) {
    RopeSpec rope;
    rope.theta = any({500.0f, 10000.0f, 1e6f});
    rope.dims = chance() ? head_dim : 2 * between(1, head_dim / 2);
    rope.scaling =
        any({RopeSpec::Scaling::none, RopeSpec::Scaling::linear, RopeSpec::Scaling::llama3, RopeSpec::Scaling::yarn});
    rope.factor = 4.0f;
    rope.original_context = 32;
    if (rope.scaling == RopeSpec::Scaling::yarn) rope.magnitude = 1.14f;
    return rope;
  }

  ExpertsSpec experts() {
    ExpertsSpec experts;
    experts.count = between(1, 9);
    experts.per_token = between(1, experts.count);
    experts.intermediate = between(5, 40);
    experts.normalised = chance();
    return experts;
  }

  DecoderLayerSpec layer(bool with_experts) {
    DecoderLayerSpec layer;
    if (chance()) layer = {.attention = AttentionKind::sliding_window, .window_tokens = between(1, 50)};
    layer.experts = with_experts && between(0, 2) > 0;
    return layer;
  }

  std::mt19937& random_;
};

std::string describe(const DecoderSpec& spec) {
  std::string text = "heads " + std::to_string(spec.heads) + "/" + std::to_string(spec.kv_heads) + " of " +
                     std::to_string(spec.head_dim) + ", query-key norm " +
                     std::to_string(static_cast<int>(spec.query_key_norm)) + ", norms " +
                     std::to_string(static_cast<int>(spec.pre_norm)) + std::to_string(static_cast<int>(spec.post_norm));
  for (const DecoderLayerSpec& layer : spec.layers) {
    text += ", window " + std::to_string(layer.window_tokens) + (layer.experts ? " with experts" : "");
  }
  return text;
}

class DecoderSpecTest : public testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Backends, DecoderSpecTest, testing::ValuesIn(tested_backends()),
                         [](const auto& info) { return info.param; });

TEST_P(DecoderSpecTest, RandomSpecsAgreeWithTheNaiveTwin) {
  std::mt19937 random(12);
  SpecMaker make(random);
  const auto backend = open_tested(GetParam());
  for (int variant = 0; variant < kVariants; ++variant) {
    const DecoderSpec spec = make.decoder();
    const DecoderWeights weights = random_weights(spec, random);
    const std::string what = "variant " + std::to_string(variant) + ": " + describe(spec);
    ASSERT_EQ(backend->lacks(spec), std::nullopt) << what;
    const auto decoder = backend->load(spec, weights, {});
    decoder->reserve_kv(kReserved);
    const std::vector<TokenId> tokens = make.tokens(spec, make.between(1, 90));

    TestSequence sequence = sequence_on(0, 1, 8, kReserved);
    const std::vector<float> whole = logits_of(*decoder, sequence, tokens);
    expect_near_on(GetParam(), whole, naive_logits(spec, weights, tokens), kTolerance, what);
    for (const int chunk : {1, make.between(2, 40)}) {
      TestSequence again = sequence_on(29, 12, 8, kReserved);
      expect_same(GetParam(), logits_of(*decoder, again, tokens, chunk), whole, kTolerance,
                  what + ", chunks of " + std::to_string(chunk));
    }
  }
}

// Several sequences of one step give what each gives alone.
TEST_P(DecoderSpecTest, CompanyDoesNotMatterToRandomSpecs) {
  std::mt19937 random(13);
  SpecMaker make(random);
  for (int variant = 0; variant < kVariants; ++variant) {
    const DecoderSpec spec = make.decoder();
    const DecoderWeights weights = random_weights(spec, random);
    const auto backend = open_tested(GetParam(), make.between(1, 3));
    const auto decoder = backend->load(spec, weights, {});
    decoder->reserve_kv(kReserved);
    std::vector<std::vector<TokenId>> prompts;
    std::vector<TestSequence> sequences;
    std::vector<float> alone;
    for (int i = 0; i < 3; ++i) {
      prompts.push_back(make.tokens(spec, make.between(1, 60)));
      sequences.push_back(sequence_on(5 * i + 3, 20, 4, kReserved));
      TestSequence sequence = sequence_on(0, 1, 4, kReserved);
      const std::vector<float> logits = logits_of(*decoder, sequence, prompts.back());
      alone.insert(alone.end(), logits.begin(), logits.end());
    }
    StepPlan plan;
    for (std::size_t i = 0; i < 3; ++i) add_slice(plan, sequences[i], prompts[i], wanted_logits());
    std::vector<float> together;
    for (const RowResult& row : run(*decoder, plan)) {
      together.insert(together.end(), row.logits.begin(), row.logits.end());
    }
    expect_same(GetParam(), together, alone, kTolerance, "variant " + std::to_string(variant) + ": " + describe(spec));
  }
}

// Heads of the sizes that kernels are made for, over more positions than pass at once: whole, in chunks on other blocks
// and beside others, on any number of threads.
TEST_P(DecoderSpecTest, WhatIsComputedTogetherDoesNotMatterToLongPrompts) {
  constexpr int kBlocks = 61;  // a prime
  std::mt19937 random(14);
  SpecMaker make(random);
  for (const int head_dim : {32, 32, 64, 64, 128, 256}) {
    DecoderSpec spec = make.decoder(head_dim);
    spec.context_tokens = 320;
    const DecoderWeights weights = random_weights(spec, random);
    const auto decoder = open_tested(GetParam(), make.between(1, 3))->load(spec, weights, {});
    decoder->reserve_kv(kBlocks);
    const std::vector<TokenId> tokens = make.tokens(spec, make.between(150, 300));
    const std::string what = describe(spec) + ", " + std::to_string(tokens.size()) + " tokens";
    TestSequence sequence = sequence_on(0, 1, 20, kBlocks);
    const std::vector<float> whole = logits_of(*decoder, sequence, tokens);
    for (const int chunk : {1, make.between(2, 140)}) {
      TestSequence again = sequence_on(30, 7, 20, kBlocks);
      expect_same(GetParam(), logits_of(*decoder, again, tokens, chunk), whole, kTolerance,
                  what + ", chunks of " + std::to_string(chunk));
    }

    const std::vector<TokenId> others = make.tokens(spec, make.between(1, 300));
    TestSequence before = sequence_on(0, 1, 20, kBlocks), beside = sequence_on(20, 1, 20, kBlocks);
    StepPlan plan;
    add_slice(plan, before, others, wanted_logits());
    add_slice(plan, beside, tokens, wanted_logits());
    const std::vector<RowResult> rows = run(*decoder, plan);
    std::vector<float> together;
    for (std::size_t row = others.size(); row < rows.size(); ++row) {
      together.insert(together.end(), rows[row].logits.begin(), rows[row].logits.end());
    }
    expect_same(GetParam(), together, whole, kTolerance, what + ", beside " + std::to_string(others.size()));
  }
}

}  // namespace
}  // namespace cortex

// Whatever an EncoderSpec can say, mixed at random, on each backend that is built: against the double-precision twin,
// packed and alone.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/backends.h"
#include "backend/naive_encoder.h"
#include "backend/packed.h"
#include "backend/random_weights.h"

namespace cortex {
namespace {

constexpr double kTolerance = 5e-5;
constexpr int kVariants = 24;

class SpecMaker {
 public:
  explicit SpecMaker(std::mt19937& random) : random_(random) {}

  EncoderSpec encoder() {
    EncoderSpec spec;
    spec.vocabulary = between(40, 90);
    spec.hidden = between(16, 70);
    spec.heads = between(1, 5);
    spec.head_dim = 2 * between(2, 20);
    spec.intermediate = between(10, 90);
    spec.context_tokens = 300;
    spec.token_types = between(0, 2);
    spec.positions = chance() ? 320 : 0;
    spec.norm_epsilon = chance() ? 1e-5f : 1e-12f;
    spec.activation = any({Activation::silu, Activation::gelu, Activation::gelu_tanh, Activation::tanh});
    spec.pre_norm = chance();
    spec.gated = chance();
    spec.pooling = any({Pooling::cls, Pooling::mean, Pooling::last_token});
    spec.rope.dims = spec.head_dim;
    if (chance()) spec.window_rope = RopeSpec{.theta = 300.0f, .dims = 2 * between(1, spec.head_dim / 2)};
    if (chance()) {
      spec.head = EncoderHeadSpec{.pooling = any({Pooling::cls, Pooling::mean}),
                                  .activation = any({Activation::tanh, Activation::gelu}),
                                  .labels = between(1, 4)};
    }
    for (int i = between(1, 4); i > 0; --i) {
      EncoderLayerSpec& layer = spec.layers.emplace_back();
      if (chance()) layer = {.attention = AttentionKind::sliding_window, .reach_tokens = between(0, 40)};
    }
    return spec;
  }

  EncoderExtras extras() {
    return {.biases = chance(), .first_norm = chance(), .head_dense = chance(), .head_norm = chance()};
  }

  int between(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }

 private:
  bool chance() { return between(0, 1) == 1; }
  template <typename Value>
  Value any(std::initializer_list<Value> values) {
    return values.begin()[between(0, static_cast<int>(values.size()) - 1)];
  }

  std::mt19937& random_;
};

std::string describe(const EncoderSpec& spec) {
  std::string text = std::to_string(spec.heads) + " heads of " + std::to_string(spec.head_dim) + ", positions " +
                     std::to_string(spec.positions) + (spec.pre_norm ? ", pre-norm" : "") +
                     (spec.gated ? ", gated" : "") + (spec.head ? ", a head" : "");
  for (const EncoderLayerSpec& layer : spec.layers) text += ", reach " + std::to_string(layer.reach_tokens);
  return text;
}

class EncoderSpecTest : public testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Backends, EncoderSpecTest, testing::ValuesIn(tested_backends()),
                         [](const auto& info) { return info.param; });

// Some texts of any length, some longer than what attends at once.
PackedTexts random_texts(const EncoderSpec& spec, SpecMaker& make) {
  std::vector<std::vector<TokenId>> texts(static_cast<std::size_t>(make.between(1, 3)));
  for (std::vector<TokenId>& text : texts) {
    for (int i = make.between(1, 150); i > 0; --i) text.push_back(make.between(0, spec.vocabulary - 1));
  }
  PackedTexts packed = pack(texts);
  if (spec.token_types == 0) return packed;
  for (std::size_t i = 0; i < packed.tokens.size(); ++i) packed.types.push_back(make.between(0, spec.token_types - 1));
  return packed;
}

// One of them, by itself.
PackedTexts text_of(const PackedTexts& packed, std::size_t text) {
  const auto begin = packed.starts[text], end = packed.starts[text + 1];
  PackedTexts alone = pack({{packed.tokens.begin() + begin, packed.tokens.begin() + end}});
  if (!packed.types.empty()) alone.types.assign(packed.types.begin() + begin, packed.types.begin() + end);
  return alone;
}

void append(std::vector<float>& values, const std::vector<float>& more) {
  values.insert(values.end(), more.begin(), more.end());
}

TEST_P(EncoderSpecTest, RandomSpecsAgreeWithTheNaiveTwin) {
  std::mt19937 random(21);
  SpecMaker make(random);
  for (int variant = 0; variant < kVariants; ++variant) {
    const EncoderSpec spec = make.encoder();
    const EncoderWeights weights = random_weights(spec, make.extras(), random);
    const std::string what = "variant " + std::to_string(variant) + ": " + describe(spec);
    const auto backend = open_tested(GetParam(), make.between(1, 3));
    ASSERT_EQ(backend->lacks(spec), std::nullopt) << what;
    const auto encoder = backend->load(spec, weights, {});

    const PackedTexts packed = random_texts(spec, make);
    std::vector<float> naive_hidden, naive_vectors, hidden, vectors;
    for (std::size_t text = 0; text + 1 < packed.starts.size(); ++text) {
      const PackedTexts mine = text_of(packed, text);
      const NaiveRows states = naive_encode(spec, weights, mine.tokens, mine.types);
      append(naive_hidden, naive_floats(states));
      append(naive_vectors, naive_pooled(spec, weights, states));
      const EncodeResult alone = encode(*encoder, mine);
      append(hidden, alone.hidden);
      append(vectors, alone.pooled);
    }
    const EncodeResult together = encode(*encoder, packed);
    EXPECT_EQ(together.dimensions, spec.head ? spec.head->labels : spec.hidden) << what;
    expect_near_on(GetParam(), together.hidden, naive_hidden, kTolerance, what + ": states");
    expect_near_on(GetParam(), together.pooled, naive_vectors, kTolerance, what + ": vectors");
    expect_same(GetParam(), together.hidden, hidden, kTolerance, what + ": states alone");
    expect_same(GetParam(), together.pooled, vectors, kTolerance, what + ": vectors alone");
  }
}

}  // namespace
}  // namespace cortex

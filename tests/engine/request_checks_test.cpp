#include "engine/request_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

namespace cortex {
namespace {

using testing::HasSubstr;

constexpr RequestLimits kLimits{100, 16, 2};
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

GenerateRequest sound() {
  GenerateRequest request;
  request.prompt = {0, 99};
  request.max_tokens = 14;
  request.stop_ids = {100, -1};
  request.logit_bias = {{99, -100.0f}};
  return request;
}

std::optional<Error> refusal(const auto& request) {
  try {
    check_request(request, kLimits);
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

std::optional<ErrorCode> code_after(const std::function<void(GenerateRequest*)>& change) {
  GenerateRequest request = sound();
  change(&request);
  const auto error = refusal(request);
  return error ? std::optional(error->code()) : std::nullopt;
}

TEST(RequestChecks, LetsASoundRequestPass) { EXPECT_FALSE(refusal(sound())); }

TEST(RequestChecks, NamesTheIdAndTheVocabulary) {
  GenerateRequest request = sound();
  request.prompt[1] = 100;
  const auto error = refusal(request);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::invalid_token_id);
  EXPECT_EQ(error->message(), "prompt[1]: token id 100 is not in the vocabulary of 100");
  EXPECT_EQ(error->param(), "prompt[1]");
  EXPECT_EQ(code_after([](auto* r) { r->prompt[0] = -1; }), ErrorCode::invalid_token_id);
  EXPECT_EQ(code_after([](auto* r) { r->logit_bias[0].first = 100; }), ErrorCode::invalid_token_id);
}

TEST(RequestChecks, NamesTheBiasAmongMany) {
  GenerateRequest request = sound();
  request.logit_bias = {{1, 1.0f}, {2, 1.0f}, {100, 1.0f}};
  EXPECT_EQ(refusal(request)->param(), "logit_bias[2]");
  EXPECT_EQ(refusal(request)->message(), "logit_bias[2]: token id 100 is not in the vocabulary of 100");
  request.logit_bias = {{1, 1.0f}, {2, 101.0f}};
  EXPECT_EQ(refusal(request)->param(), "logit_bias[1]");
  EXPECT_EQ(refusal(request)->message(), "logit_bias[1]: 101 is not in [-100, 100]");
}

TEST(RequestChecks, LetsTheBoundsThemselvesPass) {
  GenerateRequest request = sound();
  request.top_logprobs = 20;
  request.logit_bias = {{0, -100.0f}, {1, 100.0f}};
  request.sampling.temperature = 2.0f;
  request.sampling.presence_penalty = -2.0f;
  request.sampling.frequency_penalty = 2.0f;
  request.sampling.repetition_penalty = 2.0f;
  EXPECT_FALSE(refusal(request));
  request.sampling.temperature = 0.0f;
  request.sampling.presence_penalty = 2.0f;
  request.sampling.frequency_penalty = -2.0f;
  request.sampling.repetition_penalty = 0.001f;
  EXPECT_FALSE(refusal(request));
}

TEST(RequestChecks, NamesBothContextNumbers) {
  GenerateRequest request = sound();
  request.max_tokens = 15;
  const auto error = refusal(request);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::context_length_exceeded);
  EXPECT_THAT(error->message(), HasSubstr("16 tokens"));
  EXPECT_THAT(error->message(), HasSubstr("17"));
  request.max_tokens = std::numeric_limits<int>::max();
  EXPECT_EQ(refusal(request)->code(), ErrorCode::context_length_exceeded);
}

TEST(RequestChecks, RefusesValuesThatASamplerCanNotUse) {
  const std::vector<std::function<void(GenerateRequest*)>> changes = {
      [](auto* r) { r->max_tokens = -1; },
      [](auto* r) { r->top_logprobs = -1; },
      [](auto* r) { r->top_logprobs = 21; },
      [](auto* r) { r->sampling.temperature = -0.1f; },
      [](auto* r) { r->sampling.temperature = 2.1f; },
      [](auto* r) { r->sampling.temperature = kNan; },
      [](auto* r) { r->sampling.temperature = kInfinity; },
      [](auto* r) { r->sampling.top_p = 0.0f; },
      [](auto* r) { r->sampling.top_p = 1.1f; },
      [](auto* r) { r->sampling.top_p = kNan; },
      [](auto* r) { r->sampling.min_p = -0.1f; },
      [](auto* r) { r->sampling.min_p = kNan; },
      [](auto* r) { r->sampling.top_k = -1; },
      [](auto* r) { r->sampling.presence_penalty = kNan; },
      [](auto* r) { r->sampling.presence_penalty = 2.1f; },
      [](auto* r) { r->sampling.frequency_penalty = -2.1f; },
      [](auto* r) { r->sampling.frequency_penalty = kInfinity; },
      [](auto* r) { r->sampling.repetition_penalty = 0.0f; },
      [](auto* r) { r->sampling.repetition_penalty = kNan; },
      [](auto* r) { r->sampling.repetition_penalty = 2.1f; },
      [](auto* r) { r->sampling.repetition_penalty = 1e-40f; },  // a logit divided by it is infinite
      [](auto* r) { r->logit_bias[0].second = kNan; },
      [](auto* r) { r->logit_bias[0].second = 3e38f; },
  };
  for (std::size_t i = 0; i < changes.size(); ++i) EXPECT_EQ(code_after(changes[i]), ErrorCode::invalid_value) << i;
  EXPECT_EQ(code_after([](auto* r) { r->prompt.clear(); }), ErrorCode::empty_input);
}

TEST(RequestChecks, ChecksTextsAndTypes) {
  EncodeRequest request;
  request.texts = {{1, 2, 3}, {4}};
  request.types = {{0, 1, 1}, {0}};
  EXPECT_FALSE(refusal(request));
  request.types = {{0, 1, 2}, {0}};
  EXPECT_EQ(refusal(request)->code(), ErrorCode::invalid_value);
  request.types = {{0, 1}, {0}};
  EXPECT_EQ(refusal(request)->code(), ErrorCode::invalid_value);
  request.types = {{0, 1, 1}};
  EXPECT_EQ(refusal(request)->code(), ErrorCode::invalid_value);
  request.types.clear();
  EXPECT_FALSE(refusal(request));
  request.texts[1] = {100};
  EXPECT_EQ(refusal(request)->param(), "texts[1][0]");
  request.texts[1] = std::vector<TokenId>(17, 1);
  EXPECT_EQ(refusal(request)->code(), ErrorCode::context_length_exceeded);
  request.texts[1].clear();
  EXPECT_EQ(refusal(request)->code(), ErrorCode::empty_input);
  request.texts.clear();
  EXPECT_EQ(refusal(request)->code(), ErrorCode::empty_input);
}

TEST(RequestChecks, OnlyADecoderScoresAndOnlyTokensOfItsVocabulary) {
  EncodeRequest request;
  request.texts = {{1, 2, 3}};
  request.scores = {5, 99};
  EXPECT_EQ(refusal(request)->code(), ErrorCode::invalid_value);
  EXPECT_EQ(refusal(request)->param(), "scores");
  constexpr RequestLimits kDecoder{.vocabulary = 100, .context_tokens = 16, .decoder = true};
  EXPECT_NO_THROW(check_request(request, kDecoder));
  for (const TokenId outside : {100, -1}) {
    request.scores[1] = outside;
    try {
      check_request(request, kDecoder);
      ADD_FAILURE() << "passed " << outside;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_token_id);
      EXPECT_EQ(error.param(), "scores[1]");
    }
  }
  request.scores.clear();
  request.types = {{0, 0, 0}};
  EXPECT_THROW(check_request(request, kDecoder), Error);
}

}  // namespace
}  // namespace cortex

#include "service/generation_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "service/served_models.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

const ServedModel& model() { return tiny_models().find("chat", Task::complete); }

template <typename Call>
Error error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(ErrorCode::internal_error, "");
}

TEST(GenerationOptions, SamplingIsTheRequestsThenTheModelsThenTheBuiltIn) {
  GenerationOptions options;
  options.sampling.temperature = 0.5f;
  options.sampling.top_k = -1;
  options.sampling.seed = -3;
  options.max_tokens = 7;
  options.priority = 2;
  options.explain = true;
  options.salt = "s";
  options.trace = "t";
  options.logit_bias = {{3, 1.5f}};
  ServedModel served = model();
  served.generation.top_p = 0.75f;
  const GenerateRequest request = make_generate_request(served, options, {1, 2, 3}, "prompt");
  EXPECT_EQ(request.sampling.temperature, 0.5f);
  EXPECT_EQ(request.sampling.top_p, 0.75f);
  EXPECT_EQ(request.sampling.min_p, 0.0f);
  EXPECT_EQ(request.sampling.top_k, 0);
  EXPECT_EQ(request.sampling.seed, static_cast<std::uint64_t>(std::int64_t{-3}));
  EXPECT_EQ(request.max_tokens, 7);
  EXPECT_EQ(request.priority, 2);
  EXPECT_TRUE(request.explain);
  EXPECT_EQ(request.salt, "s");
  EXPECT_EQ(request.trace, "t");
  EXPECT_EQ(request.stop_ids, served.stop_ids);
  EXPECT_EQ(request.model, "chat");
  EXPECT_THAT(request.prompt, ElementsAre(1, 2, 3));
  EXPECT_THAT(request.logit_bias, ElementsAre(Pair(3, 1.5f)));
}

TEST(GenerationOptions, AModelThatIsNotToSampleIsGreedyUntilARequestSaysOtherwise) {
  ServedModel served = model();
  served.generation.do_sample = false;
  served.generation.temperature = 0.8f;
  GenerationOptions options;
  EXPECT_EQ(make_generate_request(served, options, {1}, "prompt").sampling.temperature, 0.0f);
  options.sampling.temperature = 0.3f;
  EXPECT_EQ(make_generate_request(served, options, {1}, "prompt").sampling.temperature, 0.3f);
}

TEST(GenerationOptions, WithoutASeedEveryRequestHasItsOwn) {
  const GenerateRequest first = make_generate_request(model(), {}, {1}, "prompt");
  const GenerateRequest second = make_generate_request(model(), {}, {1}, "prompt");
  EXPECT_NE(first.sampling.seed, second.sampling.seed);
}

TEST(GenerationOptions, TheContextIsTheLimit) {
  const auto prompt_of = [](int tokens) { return std::vector<TokenId>(static_cast<std::size_t>(tokens), 5); };
  const int context = model().context_tokens;
  GenerationOptions options;
  EXPECT_EQ(make_generate_request(model(), options, prompt_of(context - 1), "prompt").max_tokens, 1);
  EXPECT_TRUE(make_generate_request(model(), options, prompt_of(2), "prompt").max_tokens_may_shrink);
  const Error full = error_of([&] { make_generate_request(model(), options, prompt_of(context), "prompt[2]"); });
  EXPECT_EQ(full.code(), ErrorCode::context_length_exceeded);
  EXPECT_EQ(full.param(), "prompt[2]");
  options.max_tokens = 0;  // nothing is sampled
  EXPECT_FALSE(make_generate_request(model(), options, prompt_of(2), "prompt").max_tokens_may_shrink);
  EXPECT_EQ(make_generate_request(model(), options, prompt_of(context), "prompt").max_tokens, 0);
  options.max_tokens = 600;
  const Error error = error_of([&] { make_generate_request(model(), options, prompt_of(2), "prompt"); });
  EXPECT_THAT(error.message(), HasSubstr("This model's maximum context length is 512 tokens."));
  EXPECT_THAT(error.message(), HasSubstr("600"));
}

TEST(GenerationOptions, APredictionIsCutToTheContextAndLimitedAsTextsAre) {
  GenerationOptions options;
  options.prediction = std::string(model().text_limit_bytes(), 'x');
  EXPECT_LE(make_generate_request(model(), options, {1}, "prompt").prediction.size(),
            static_cast<std::size_t>(model().context_tokens));
  options.prediction += 'x';
  const Error error = error_of([&] { make_generate_request(model(), options, {1}, "prompt"); });
  EXPECT_EQ(error.code(), ErrorCode::request_too_large);
  EXPECT_EQ(error.param(), "prediction");
}

TEST(GenerationOptions, ABiasOutsideTheVocabularyIsRefused) {
  for (const std::int64_t id : {std::int64_t{-1}, std::int64_t{484}, std::int64_t{1} << 40}) {
    GenerationOptions options;
    options.logit_bias = {{id, 1.0f}};
    const Error error = error_of([&] { make_generate_request(model(), options, {1}, "prompt"); });
    EXPECT_EQ(error.code(), ErrorCode::invalid_token_id) << id;
    EXPECT_THAT(error.message(), HasSubstr(std::to_string(id)));
    EXPECT_THAT(error.message(), HasSubstr("484"));
  }
}

}  // namespace
}  // namespace cortex

#include "service/generation_options.h"

#include <fmt/core.h>

#include <algorithm>
#include <random>
#include <utility>

namespace cortex {
namespace {

std::uint64_t random_seed() {
  std::random_device device;
  return (static_cast<std::uint64_t>(device()) << 32) | device();
}

SamplingParams resolve(const SamplingChoice& asked, const GenerationDefaults& model) {
  SamplingParams params;
  // A model whose makers say "do not sample" is greedy until a request says otherwise.
  const float temperature = model.do_sample == false ? 0.0f : model.temperature.value_or(params.temperature);
  params.temperature = asked.temperature.value_or(temperature);
  params.top_p = asked.top_p.value_or(model.top_p.value_or(params.top_p));
  params.min_p = asked.min_p.value_or(model.min_p.value_or(params.min_p));
  params.top_k = std::max(0, asked.top_k.value_or(model.top_k.value_or(params.top_k)));
  params.presence_penalty = asked.presence_penalty.value_or(params.presence_penalty);
  params.frequency_penalty = asked.frequency_penalty.value_or(params.frequency_penalty);
  params.repetition_penalty =
      asked.repetition_penalty.value_or(model.repetition_penalty.value_or(params.repetition_penalty));
  params.seed = asked.seed ? static_cast<std::uint64_t>(*asked.seed) : random_seed();
  return params;
}

std::vector<std::pair<TokenId, float>> checked_bias(const std::vector<std::pair<std::int64_t, float>>& bias,
                                                    int vocabulary) {
  std::vector<std::pair<TokenId, float>> checked;
  for (const auto& [id, value] : bias) {
    if (id < 0 || id >= vocabulary) {
      throw Error(
          ErrorCode::invalid_token_id,
          fmt::format("logit_bias: token id {} is outside 0..{} (vocabulary size {})", id, vocabulary - 1, vocabulary),
          "logit_bias");
    }
    checked.emplace_back(static_cast<TokenId>(id), value);
  }
  return checked;
}

// How many tokens may follow the prompt.
int room_for_output(const ServedModel& model, std::size_t prompt, const GenerationOptions& options,
                    std::string_view param) {
  const auto context = static_cast<std::size_t>(model.context_tokens);
  // Without max_tokens there must be room for one.
  const auto wanted = static_cast<std::size_t>(options.max_tokens.value_or(1));
  if (prompt + wanted <= context) {
    const auto room = static_cast<int>(context - prompt);
    return options.max_tokens.value_or(std::min(room, options.usual_max_tokens.value_or(room)));
  }
  const std::string asked = options.max_tokens ? fmt::format(" and max_tokens asks for {}", wanted) : std::string();
  throw Error(
      ErrorCode::context_length_exceeded,
      fmt::format("This model's maximum context length is {} tokens. {}: {} tokens{}.", context, param, prompt, asked),
      std::string(param));
}

// No more than a context holds: drafts beyond it can't come true.
std::vector<TokenId> predicted_tokens(const ServedModel& model, const std::string& prediction) {
  if (prediction.empty()) return {};
  if (prediction.size() > model.text_limit_bytes()) {
    throw Error(ErrorCode::request_too_large,
                fmt::format("prediction: has {} bytes; the limit of this model is {}", prediction.size(),
                            model.text_limit_bytes()),
                "prediction");
  }
  std::vector<TokenId> tokens = model.tokenizer->encode(prediction, {.add_special_tokens = false});
  tokens.resize(std::min(tokens.size(), static_cast<std::size_t>(model.context_tokens)));
  return tokens;
}

}  // namespace

GenerateRequest make_generate_request(const ServedModel& model, const GenerationOptions& options,
                                      std::vector<TokenId> prompt, std::string_view param) {
  GenerateRequest request;
  request.model = model.name;
  request.max_tokens = room_for_output(model, prompt.size(), options, param);
  request.max_tokens_may_shrink = !options.max_tokens;
  request.prompt = std::move(prompt);
  request.stop_ids = model.stop_ids;
  request.sampling = resolve(options.sampling, model.generation);
  request.logit_bias = checked_bias(options.logit_bias, model.vocabulary);
  request.prediction = predicted_tokens(model, options.prediction);
  request.logprobs = options.logprobs;
  request.top_logprobs = options.top_logprobs;
  request.explain = options.explain;
  request.priority = options.priority;
  request.salt = options.salt;
  request.timeout = options.timeout;
  request.trace = options.trace;
  return request;
}

}  // namespace cortex

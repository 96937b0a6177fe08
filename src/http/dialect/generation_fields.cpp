#include "http/dialect/generation_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <optional>
#include <utility>

#include "base/json_writer.h"
#include "http/dialect/fields.h"
#include "http/error_reply.h"

namespace cortex {
namespace {

constexpr std::size_t kLongestStopBytes = 256;
constexpr std::size_t kMostBiases = 1024;
constexpr double kLongestTimeoutS = 3600;

// A number above 0, up to `most`.
std::optional<float> optional_share(const JsonValue& body, const char* field, double most) {
  const auto value = optional_number(body, field, 0, most);
  if (value && *value == 0) {
    throw Error(ErrorCode::invalid_value, fmt::format("{}: 0 is out of range; above 0, up to {}", field, most), field);
  }
  return value;
}

SamplingChoice read_sampling(const JsonValue& body) {
  SamplingChoice choice;
  choice.temperature = optional_number(body, "temperature", 0, 2);
  choice.top_p = optional_share(body, "top_p", 1);
  choice.min_p = optional_number(body, "min_p", 0, 1);
  choice.presence_penalty = optional_number(body, "presence_penalty", -2, 2);
  choice.frequency_penalty = optional_number(body, "frequency_penalty", -2, 2);
  choice.repetition_penalty = optional_share(body, "repetition_penalty", 2);
  choice.top_k = optional_integer(body, "top_k", -1, kLargestInteger);
  if (const auto seed = body.get("seed")) choice.seed = seed->integer();
  return choice;
}

std::vector<std::pair<std::int64_t, float>> read_biases(const JsonValue& body) {
  const auto bias = body.get("logit_bias");
  if (!bias) return {};
  const auto members = bias->members();
  if (members.size() > kMostBiases) {
    throw Error(ErrorCode::invalid_value,
                fmt::format("logit_bias: has {} entries; at most {}", members.size(), kMostBiases), "logit_bias");
  }
  std::vector<std::pair<std::int64_t, float>> biases;
  for (const auto& [key, value] : members) {
    std::int64_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size()) {
      throw Error(ErrorCode::invalid_token_id, fmt::format("logit_bias: {} is not a token id", excerpt(key)),
                  "logit_bias");
    }
    biases.emplace_back(id, static_cast<float>(value.number_in(-100, 100)));
  }
  return biases;
}

std::optional<std::chrono::milliseconds> read_timeout(const JsonValue& body) {
  const auto timeout = body.get("timeout_s");
  if (!timeout) return std::nullopt;
  return std::chrono::milliseconds(
      static_cast<std::int64_t>(std::ceil(timeout->number_in(0, kLongestTimeoutS) * 1000)));
}

std::optional<std::string> read_reasoning_effort(const JsonValue& body) {
  constexpr std::array kEfforts = {"none", "minimal", "low", "medium", "high", "xhigh", "max"};
  auto effort = optional_string(body, "reasoning_effort");
  if (effort && std::find(kEfforts.begin(), kEfforts.end(), *effort) == kEfforts.end()) {
    throw Error(ErrorCode::invalid_value,
                fmt::format("reasoning_effort: unknown {}; one of {}", excerpt(*effort), fmt::join(kEfforts, ", ")),
                "reasoning_effort");
  }
  return effort;
}

}  // namespace

GenerationOptions read_generation_options(const JsonValue& body, const HttpRequest& request) {
  GenerationOptions options;
  options.sampling = read_sampling(body);
  options.logit_bias = read_biases(body);
  options.explain = optional_boolean(body, "explain").value_or(false);
  options.priority = optional_integer(body, "priority", -10, 10).value_or(0);
  options.timeout = read_timeout(body);
  options.owner = request.key_id;
  options.salt = salt_of(body, request);
  options.trace = request.id;
  return options;
}

std::vector<std::string> read_stops(const JsonValue& body, std::size_t most) {
  const auto stop = body.get("stop");
  if (!stop) return {};
  std::vector<std::string> stops;
  if (stop->is_string()) {
    stops.push_back(stop->string());
  } else {
    const std::vector<JsonValue> items = stop->items();
    if (items.size() > most) {
      throw Error(ErrorCode::invalid_value, fmt::format("stop: has {} entries; at most {}", items.size(), most),
                  "stop");
    }
    for (const JsonValue& item : items) stops.push_back(item.string());
  }
  for (const auto& text : stops) {
    if (text.empty() || text.size() > kLongestStopBytes) {
      throw Error(ErrorCode::invalid_value,
                  fmt::format("stop: a string of {} bytes; 1 to {} are possible", text.size(), kLongestStopBytes),
                  "stop");
    }
  }
  return stops;
}

int read_top_logprobs(const JsonValue& body, bool logprobs) {
  const int top = optional_integer(body, "top_logprobs", 0, kMostTopLogprobs).value_or(0);
  if (top > 0 && !logprobs) {
    throw Error(ErrorCode::invalid_value, "top_logprobs: needs logprobs to be true", "top_logprobs");
  }
  return top;
}

std::string read_template_arguments(const JsonValue& body) {
  constexpr std::array kKnown = {"enable_thinking", "thinking", "reasoning_effort", "date_string"};
  if (body.get("chat_template")) {
    throw Error(ErrorCode::chat_template_not_allowed, "chat_template: templates come with the model, not with requests",
                "chat_template");
  }
  JsonWriter json;
  json.begin_object();
  auto effort = read_reasoning_effort(body);
  if (const auto arguments = body.get("chat_template_kwargs")) {
    for (const auto& [key, value] : arguments->members()) {
      const std::string path = fmt::format("chat_template_kwargs.{}", key.substr(0, 32));
      if (std::find(kKnown.begin(), kKnown.end(), key) == kKnown.end()) {
        throw Error(ErrorCode::invalid_value, fmt::format("{}: unknown; one of {}", path, fmt::join(kKnown, ", ")),
                    path);
      }
      if (!value.is_scalar()) {
        throw Error(ErrorCode::invalid_value, fmt::format("{}: a string, number or boolean is wanted", path), path);
      }
      if (key == "reasoning_effort") effort.reset();
      json.key(key).raw(value.raw_json());
    }
  }
  if (effort) json.key("reasoning_effort").string(*effort);
  return json.end_object().take();
}

}  // namespace cortex

#include "service/completion.h"

#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <utility>

namespace cortex {
namespace {

// The client writes the whole prompt, as a chat template does: control tokens in it are control tokens.
constexpr EncodeOptions kAsPrompt{.add_special_tokens = true, .parse_special = true};

void require_few_choices(const CompletionRequest& request) {
  const std::size_t choices = request.prompts.size() * static_cast<std::size_t>(request.n);
  if (choices <= kMostChoices) return;
  throw Error(ErrorCode::invalid_value,
              fmt::format("prompt: {} prompts with n {} are {} texts; at most {}", request.prompts.size(), request.n,
                          choices, kMostChoices),
              "prompt");
}

PromptText read_text(const ServedModel& model, const std::string& text, const std::string& param) {
  if (text.size() > model.text_limit_bytes()) {
    throw Error(
        ErrorCode::request_too_large,
        fmt::format("{}: has {} bytes; the limit of this model is {}", param, text.size(), model.text_limit_bytes()),
        param);
  }
  PromptText prompt{text, model.tokenizer->encode(text, kAsPrompt), 0};
  // What the tokenizer puts before a text it puts before no text too.
  const std::vector<TokenId> frame = model.tokenizer->encode("", kAsPrompt);
  const auto differs = std::mismatch(frame.begin(), frame.end(), prompt.ids.begin(), prompt.ids.end());
  prompt.unwritten = static_cast<std::size_t>(differs.first - frame.begin());
  return prompt;
}

PromptText read_ids(const ServedModel& model, const std::vector<std::int64_t>& ids, const std::string& param) {
  PromptText prompt;
  for (const std::int64_t id : ids) {
    if (id < 0 || id >= model.vocabulary) {
      throw Error(ErrorCode::invalid_token_id,
                  fmt::format("{}: token id {} is outside 0..{} (vocabulary size {})", param, id, model.vocabulary - 1,
                              model.vocabulary),
                  param);
    }
    prompt.ids.push_back(static_cast<TokenId>(id));
  }
  prompt.text = model.tokenizer->decode(prompt.ids, false);
  return prompt;
}

}  // namespace

GenerationCall CompletionService::prepare(const CompletionRequest& request) {
  GenerationCall call = begin_call("cmpl-", request, place_.clock);
  const ServedModel& model = models_.find(request.model, Task::complete);
  if (request.prompts.empty()) throw Error(ErrorCode::empty_input, "prompt: is empty", "prompt");
  require_few_choices(request);
  admit(&call, admission_, model, request.prompts.size() * static_cast<std::size_t>(request.n));
  call.echo = request.echo;
  for (std::size_t i = 0; i < request.prompts.size(); ++i) {
    const std::string param = request.single ? "prompt" : fmt::format("prompt[{}]", i);
    const auto* text = std::get_if<std::string>(&request.prompts[i]);
    auto prompt = std::make_shared<PromptText>(
        text ? read_text(model, *text, param)
             : read_ids(model, std::get<std::vector<std::int64_t>>(request.prompts[i]), param));
    if (prompt->ids.empty()) throw Error(ErrorCode::empty_input, fmt::format("{}: has no tokens", param), param);
    add_choices(&call, request, prompt->ids, prompt, param);
  }
  for (auto& choice : call.choices) choice.request.prompt_logprobs = request.echo && request.logprobs;
  return call;
}

void CompletionService::run(GenerationCall call, GenerationSink sink) {
  std::make_shared<Generation>(place_, std::move(call), std::move(sink))->start();
}

}  // namespace cortex

#include "service/embed.h"

#include <fmt/core.h>

#include <utility>

#include "base/excerpt.h"

namespace cortex {
namespace {

void require_dimensions(const ServedModel& model, const std::optional<std::int64_t>& dimensions) {
  if (!dimensions || *dimensions == model.dimensions) return;
  throw Error(ErrorCode::invalid_value,
              fmt::format("dimensions: {} is not possible: \"{}\" was not trained for shortened vectors; maximum and "
                          "only value {}",
                          *dimensions, model.name, model.dimensions),
              "dimensions");
}

std::string find_prompt(const ServedModel& model, const std::optional<std::string>& prompt_name) {
  const auto& prompts = model.embedding.prompts;
  const auto& name = prompt_name ? prompt_name : model.embedding.default_prompt;
  if (!name) return {};
  if (const auto found = prompts.find(*name); found != prompts.end()) return found->second;
  std::string names;
  for (const auto& [known, prompt] : prompts) names += (names.empty() ? "" : ", ") + known;
  throw Error(ErrorCode::invalid_value,
              fmt::format("prompt_name: \"{}\" has no prompt {}; {}", model.name, excerpt(*name),
                          names.empty() ? "it has none" : "one of " + names),
              "prompt_name");
}

}  // namespace

CancelEncode EmbedService::embed(const EmbedRequest& request, EmbedSink sink) {
  const ServedModel& model = models_.find(request.model, Task::embed);
  require_dimensions(model, request.dimensions);
  const std::string prompt = find_prompt(model, request.prompt_name);
  if (request.inputs.empty()) {
    throw Error(ErrorCode::empty_input, fmt::format("{}: is empty", request.param), request.param);
  }
  Admission::Ticket ticket = admission_.enter(model.name);
  EncodeBatch batch(model, clock_);
  for (std::size_t i = 0; i < request.inputs.size(); ++i) {
    const std::string param = request.single ? request.param : fmt::format("{}[{}]", request.param, i);
    if (const auto* text = std::get_if<std::string>(&request.inputs[i])) {
      batch.add_text(*text, request.truncation, param, prompt);
    } else if (request.prompt_name) {
      throw Error(ErrorCode::invalid_value, "prompt_name: is for texts, not for token ids", "prompt_name");
    } else {
      batch.add_ids(std::get<std::vector<std::int64_t>>(request.inputs[i]), request.truncation, param);
    }
  }
  return std::move(batch).send(
      std::move(ticket), cache_, text_threads_, request.salt, request.trace,
      [name = model.name, normalize = request.normalize, sink = std::move(sink)](EncodedBatch encoded) {
        if (normalize) {
          for (auto& vector : encoded.vectors) normalise(vector);
        }
        sink({name, std::move(encoded.vectors), encoded.cost, std::move(encoded.error)});
      });
}

}  // namespace cortex

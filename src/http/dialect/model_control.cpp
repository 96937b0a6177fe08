#include "http/dialect/model_control.h"

#include <fmt/core.h>

#include <algorithm>
#include <string>
#include <utility>

#include "base/json_writer.h"
#include "base/try_later.h"
#include "http/dialect/fields.h"
#include "http/error_reply.h"

namespace cortex {
namespace {

constexpr std::size_t kLongestPath = 1024;
constexpr int kMostSequences = 4096;

// Throws Error invalid_value or model_not_found.
std::string read_model(const ModelControl& control, const HttpRequest& request) {
  const JsonBody body = JsonBody::parse(request.body);
  std::string name = body.root().require("model").string();
  if (!is_model_name(name)) throw Error(ErrorCode::invalid_value, "model: not the name of a model", "model");
  const auto& models = control.models.all();
  if (std::none_of(models.begin(), models.end(), [&](const ServedModel& model) { return model.name == name; })) {
    throw Error(ErrorCode::model_not_found, fmt::format("model: there is no model {}", excerpt(name)), "model");
  }
  return name;
}

// Answers 409 and returns true while the model loads; the code says why.
bool refuse_while_loading(const ModelControl& control, const std::string& name, const HttpRequest& request,
                          HttpReply& reply) {
  const EngineStatus engine = control.engine.status();
  const auto loads = [&](const ModelStatus& model) { return model.name == name && model.state == ModelState::loading; };
  const auto found = std::find_if(engine.models.begin(), engine.models.end(), loads);
  if (found == engine.models.end()) return false;
  const TryLater error(ErrorCode::model_loading,
                       fmt::format("model: \"{}\" is loading, {:.0f} % done", name, 100 * found->progress), 1.0);
  constexpr int kConflict = 409;
  reply.note_model(name);
  reply.note_error(error.code());
  respond_json(reply, kConflict, error_body(error, Dialect::native, request.id), error_headers(error, Dialect::native));
  return true;
}

// What the engine tells when the model has come or gone.
ModelSink answer_with(std::string name, std::string state, const HttpRequest& request,
                      std::shared_ptr<HttpReply> reply) {
  return [name = std::move(name), state = std::move(state), id = request.id,
          reply = std::move(reply)](const std::optional<Error>& error) {
    if (error) return respond_error(*reply, *error, Dialect::native, id);
    JsonWriter json;
    json.begin_object().key("model").string(name).key("state").string(state).end_object();
    respond_json(*reply, 200, json.take());
  };
}

std::string estimate_json(const MemoryEstimate& estimate) {
  JsonWriter json;
  json.begin_object().key("fits").boolean(estimate.fits);
  json.key("bytes").begin_object();
  json.key("weights").unsigned_integer(estimate.weight_bytes).key("kv").unsigned_integer(estimate.kv_bytes);
  json.key("activations").unsigned_integer(estimate.activation_bytes);
  json.key("grammars").unsigned_integer(estimate.grammar_bytes);
  json.key("caches").unsigned_integer(estimate.cache_bytes);
  json.key("total").unsigned_integer(estimate.total_bytes()).end_object();
  json.key("budget_bytes").unsigned_integer(estimate.budget_bytes);
  json.key("plan").begin_object().key("weights").string(estimate.weights).key("kv").string(estimate.kv);
  json.key("blocks").integer(estimate.blocks).key("streaming").boolean(estimate.streaming).end_object();
  json.key("advice").begin_array();
  for (const auto& line : estimate.advice) json.string(line);
  return json.end_array().end_object().take();
}

}  // namespace

void load_model(const ModelControl& control, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  const std::string name = read_model(control, request);
  if (refuse_while_loading(control, name, request, *reply)) return;
  control.engine.load_model(name, answer_with(name, "ready", request, reply));
}

void unload_model(const ModelControl& control, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  const std::string name = read_model(control, request);
  if (refuse_while_loading(control, name, request, *reply)) return;
  control.engine.unload_model(name, answer_with(name, "unloaded", request, reply));
}

void estimate_memory_of_model(const ModelControl& control, const HttpRequest& request, HttpReply& reply) {
  const JsonBody body = JsonBody::parse(request.body);
  const JsonValue root = body.root();
  MemoryQuestion question;
  question.model = root.require("model").string();
  if (question.model.empty() || question.model.size() > kLongestPath) {
    throw Error(ErrorCode::invalid_value, fmt::format("model: 1 to {} bytes are possible", kLongestPath), "model");
  }
  question.context_tokens = optional_integer(root, "context_length", 1, kLargestInteger);
  question.sequences = optional_integer(root, "sequences", 1, kMostSequences);
  respond_json(reply, 200, estimate_json(control.estimate(question)));
}

}  // namespace cortex

#include <fmt/core.h>

#include <algorithm>

#include "base/json_writer.h"
#include "http/dialect/fields.h"
#include "http/dialect/openai.h"
#include "http/error_reply.h"

namespace cortex {
namespace {

void write_model(JsonWriter& json, const ServedModel& model, std::int64_t created_s) {
  json.begin_object().key("id").string(model.name).key("object").string("model").key("created").integer(created_s);
  json.key("owned_by").string("cortex").key("root").string(model.name).key("parent").null();
  json.key("max_model_len").integer(model.context_tokens).key("context_length").integer(model.context_tokens);
  json.key("capabilities").begin_array();
  if (model.can(Task::chat)) json.string("chat").string("tools").string("json_schema");
  if (model.can(Task::complete)) json.string("completion");
  if (model.can(Task::embed)) json.string("embedding");
  if (model.can(Task::rerank)) json.string("rerank");
  json.end_array().end_object();
}

}  // namespace

void openai_list_models(const OpenaiServices& services, HttpReply& reply) {
  JsonWriter json;
  json.begin_object().key("object").string("list").key("data").begin_array();
  for (const auto& model : services.models.all()) write_model(json, model, services.created_s);
  respond_json(reply, 200, json.end_array().end_object().take());
}

void openai_get_model(const OpenaiServices& services, const HttpRequest& request, HttpReply& reply) {
  const auto& models = services.models.all();
  const auto named = [&](const ServedModel& model) { return model.name == request.path_id; };
  const auto found = std::find_if(models.begin(), models.end(), named);
  if (found == models.end()) {
    throw Error(ErrorCode::model_not_found, fmt::format("model: there is no model {}", excerpt(request.path_id)),
                "model");
  }
  JsonWriter json;
  write_model(json, *found, services.created_s);
  respond_json(reply, 200, json.take());
}

}  // namespace cortex

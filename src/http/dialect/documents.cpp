#include "http/dialect/documents.h"

#include <fmt/core.h>

#include <utility>

#include "base/identifier.h"
#include "base/json_writer.h"
#include "http/dialect/encode_count.h"
#include "http/dialect/fields.h"
#include "http/dialect/text_inputs.h"
#include "http/error_reply.h"
#include "http/json_body.h"

namespace cortex {
namespace {

constexpr std::size_t kMostDocuments = 1000;

// A string, or an object with it as its `text`.
std::string read_document(const JsonValue& item) {
  if (item.is_object()) return item.require("text").string();
  if (!item.is_string()) throw item.error(ErrorCode::invalid_type, "a string or an object with a text is wanted");
  return item.string();
}

std::vector<std::string> read_documents(const JsonValue& list) {
  const std::vector<JsonValue> items = list.items();
  if (items.size() > kMostDocuments) {
    throw list.error(ErrorCode::batch_too_large,
                     fmt::format("batch size {} > maximum allowed batch size {}", items.size(), kMostDocuments));
  }
  std::vector<std::string> documents;
  for (const JsonValue& item : items) documents.push_back(read_document(item));
  return documents;
}

RerankRequest read_rerank(const JsonValue& body, const HttpRequest& http) {
  RerankRequest request;
  request.param = "documents";
  request.query = body.require("query").string();
  request.texts = read_documents(body.require("documents"));
  request.model = optional_string(body, "model");
  request.truncation.allowed = true;
  const int most_tokens = optional_integer(body, "max_tokens_per_doc", 0, kLargestInteger).value_or(0);
  if (most_tokens > 0) request.truncation.most_tokens = static_cast<std::size_t>(most_tokens);
  // vLLM's clients say the same by the opposite.
  const bool activation = optional_boolean(body, "use_activation").value_or(true);
  request.raw_scores = optional_boolean(body, "raw_scores").value_or(!activation);
  request.top_n = read_top_n(body);
  request.salt = salt_of(body, http);
  request.trace = http.id;
  return request;
}

// `documents` is empty where they are not wanted back.
std::string reply_json(const RerankReply& done, const std::vector<std::string>& documents) {
  JsonWriter json;
  json.begin_object().key("id").string(make_identifier("rerank-")).key("object").string("list");
  json.key("created").integer(done.created_s).key("model").string(done.model).key("results").begin_array();
  for (const RerankResult& result : done.results) {
    json.begin_object().key("index").integer(result.index).key("relevance_score").number(result.score);
    if (!documents.empty()) {
      const std::string& text = documents[static_cast<std::size_t>(result.index)];
      json.key("document").begin_object().key("text").string(text).end_object();
    }
    json.end_object();
  }
  json.end_array().key("usage").begin_object().key("prompt_tokens").integer(done.cost.tokens);
  return json.key("total_tokens").integer(done.cost.tokens).end_object().end_object().take();
}

void documents_rerank(const NativeServices& services, const JsonValue& body, const HttpRequest& request,
                      const std::shared_ptr<HttpReply>& reply) {
  const bool return_documents = optional_boolean(body, "return_documents").value_or(true);
  RerankRequest rerank = read_rerank(body, request);
  const std::vector<std::string> documents = return_documents ? rerank.texts : std::vector<std::string>();
  auto answer = [reply, documents, trace = request.id, &metrics = services.metrics](RerankReply done) {
    try {
      if (done.error) throw Error(*done.error);
      count_rerank(metrics, *reply, done);
      respond_json(*reply, 200, reply_json(done, documents), text_headers(done.cost));
    } catch (const Error& error) {
      respond_error(*reply, error, Dialect::documents, trace);
    }
  };
  CancelEncode cancel = services.rerank.rerank(rerank, std::move(answer));
  reply->on_disconnect(std::move(cancel));
}

// Throws Error missing_required_parameter or invalid_value.
bool has_documents(const JsonValue& body) {
  const bool texts = body.get("texts").has_value();
  const bool documents = body.get("documents").has_value();
  if (texts && documents) {
    throw Error(ErrorCode::invalid_value, "texts: only one of texts, documents is possible", "texts");
  }
  if (!texts && !documents) {
    throw Error(ErrorCode::missing_required_parameter, "texts: is missing; one of texts, documents is needed", "texts");
  }
  return documents;
}

}  // namespace

void rerank(const NativeServices& services, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  const JsonBody document = JsonBody::parse(request.body);
  const JsonValue body = document.root();
  Dialect dialect = Dialect::native;
  try {
    if (has_documents(body)) {
      dialect = Dialect::documents;
      documents_rerank(services, body, request, reply);
    } else {
      native_rerank(services, body, request, reply);
    }
  } catch (const Error& error) {
    respond_error(*reply, error, dialect, request.id);
  }
}

}  // namespace cortex

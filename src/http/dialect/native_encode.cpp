#include <fmt/core.h>

#include <limits>
#include <utility>

#include "base/json_writer.h"
#include "http/dialect/encode_count.h"
#include "http/dialect/fields.h"
#include "http/dialect/native.h"
#include "http/dialect/text_inputs.h"
#include "http/error_reply.h"
#include "http/json_body.h"

namespace cortex {
namespace {

constexpr std::size_t kMostInputs = 32;   // TEI's `inputs` and `texts`
constexpr std::size_t kMostTexts = 2048;  // cortex-py's `texts`

Truncation read_truncation(const JsonValue& body) {
  Truncation truncation;
  truncation.allowed = optional_boolean(body, "truncate").value_or(false);
  const std::string side = optional_string(body, "truncation_direction").value_or("right");
  if (side == "left" || side == "Left") {
    truncation.side = TruncateSide::left;
  } else if (side != "right" && side != "Right") {
    throw Error(ErrorCode::invalid_value,
                fmt::format("truncation_direction: unknown {}; one of left, right", excerpt(side)),
                "truncation_direction");
  }
  return truncation;
}

// The three shapes of a body and of its reply.
enum class EmbedShape { inputs, text, texts };

EmbedShape read_shape(const JsonValue& body, EmbedRequest* request) {
  const auto inputs = body.get("inputs");
  const auto text = body.get("text");
  const auto texts = body.get("texts");
  const int given = int(inputs.has_value()) + int(text.has_value()) + int(texts.has_value());
  if (given == 0) {
    throw Error(ErrorCode::missing_required_parameter, "inputs: is missing; one of inputs, text, texts is needed",
                "inputs");
  }
  if (given > 1) {
    throw Error(ErrorCode::invalid_value, "inputs: only one of inputs, text, texts is possible", "inputs");
  }
  if (inputs) {
    TextInputs all = read_text_inputs(*inputs, "inputs", kMostInputs);
    request->inputs = std::move(all.texts);
    request->single = all.single;
    return EmbedShape::inputs;
  }
  if (text) {
    request->param = "text";
    request->single = true;
    request->inputs.emplace_back(text->string());
    return EmbedShape::text;
  }
  request->param = "texts";
  const std::vector<JsonValue> items = texts->items();
  require_batch("texts", items.size(), kMostTexts);
  for (const JsonValue& item : items) request->inputs.emplace_back(item.string());
  return EmbedShape::texts;
}

EmbedRequest read_embed(const JsonValue& body, const HttpRequest& http, EmbedShape* shape) {
  EmbedRequest request;
  *shape = read_shape(body, &request);
  request.model = optional_string(body, "model");
  request.normalize = optional_boolean(body, "normalize").value_or(true);
  request.truncation = read_truncation(body);
  request.prompt_name = optional_string(body, "prompt_name");
  if (const auto dimensions = body.get("dimensions")) request.dimensions = dimensions->integer();
  request.salt = salt_of(body, http);
  request.trace = http.id;
  return request;
}

RerankRequest read_rerank(const JsonValue& body, const HttpRequest& http) {
  RerankRequest request;
  request.query = body.require("query").string();
  const std::vector<JsonValue> texts = body.require("texts").items();
  require_batch("texts", texts.size(), kMostInputs);
  for (const JsonValue& text : texts) request.texts.emplace_back(text.string());
  request.model = optional_string(body, "model");
  request.truncation = request.query_truncation = read_truncation(body);
  request.raw_scores = optional_boolean(body, "raw_scores").value_or(false);
  request.top_n = read_top_n(body);
  request.salt = salt_of(body, http);
  request.trace = http.id;
  return request;
}

// TEI's headers, in whole milliseconds, and ours.
HttpHeaders cost_headers(const EncodeCost& cost) {
  const auto ms = [](double value) { return fmt::format("{:.0f}", value); };
  HttpHeaders headers = {{"x-compute-type", "cpu"},
                         {"x-compute-time", ms(cost.total_ms)},
                         {"x-compute-characters", std::to_string(cost.characters)},
                         {"x-compute-tokens", std::to_string(cost.tokens)},
                         {"x-total-time", ms(cost.total_ms)},
                         {"x-tokenization-time", ms(cost.tokenization_ms)},
                         {"x-queue-time", ms(cost.queue_ms)},
                         {"x-inference-time", ms(cost.inference_ms)}};
  for (auto& header : text_headers(cost)) headers.push_back(std::move(header));
  return headers;
}

std::string embed_json(EmbedShape shape, const std::vector<std::vector<float>>& vectors) {
  JsonWriter json;
  if (shape == EmbedShape::text) {
    return json.begin_object().key("embedding").numbers(vectors.front()).end_object().take();
  }
  if (shape == EmbedShape::texts) json.begin_object().key("embeddings");
  json.begin_array();
  for (const auto& vector : vectors) json.numbers(vector);
  json.end_array();
  if (shape == EmbedShape::texts) json.end_object();
  return json.take();
}

std::string rerank_json(const std::vector<RerankResult>& results, const std::vector<std::string>& texts) {
  JsonWriter json;
  json.begin_array();
  for (const auto& result : results) {
    json.begin_object().key("index").integer(result.index).key("score").number(result.score);
    if (!texts.empty()) json.key("text").string(texts[static_cast<std::size_t>(result.index)]);
    json.end_object();
  }
  return json.end_array().take();
}

}  // namespace

std::optional<std::int64_t> read_top_n(const JsonValue& body) {
  const auto top_n = body.get("top_n");
  if (!top_n) return std::nullopt;
  return top_n->integer_in(0, std::numeric_limits<std::int64_t>::max());
}

void native_embed(const NativeServices& services, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  const JsonBody document = JsonBody::parse(request.body);
  EmbedShape shape{};
  const EmbedRequest embed = read_embed(document.root(), request, &shape);
  Metrics& metrics = services.metrics;
  CancelEncode cancel = services.embed.embed(embed, [reply, shape, trace = request.id, &metrics](EmbedReply done) {
    try {
      if (done.error) throw Error(*done.error);
      count_encoding(metrics, *reply, done.model, done.cost);
      respond_json(*reply, 200, embed_json(shape, done.vectors), cost_headers(done.cost));
    } catch (const Error& error) {
      respond_error(*reply, error, Dialect::native, trace);
    }
  });
  reply->on_disconnect(std::move(cancel));
}

void native_rerank(const NativeServices& services, const JsonValue& body, const HttpRequest& request,
                   const std::shared_ptr<HttpReply>& reply) {
  const bool return_text = optional_boolean(body, "return_text").value_or(false);
  RerankRequest rerank = read_rerank(body, request);
  const std::vector<std::string> texts = return_text ? rerank.texts : std::vector<std::string>();
  auto answer = [reply, texts, trace = request.id, &metrics = services.metrics](RerankReply done) {
    try {
      if (done.error) throw Error(*done.error);
      count_rerank(metrics, *reply, done);
      respond_json(*reply, 200, rerank_json(done.results, texts), cost_headers(done.cost));
    } catch (const Error& error) {
      respond_error(*reply, error, Dialect::native, trace);
    }
  };
  CancelEncode cancel = services.rerank.rerank(rerank, std::move(answer));
  reply->on_disconnect(std::move(cancel));
}

}  // namespace cortex

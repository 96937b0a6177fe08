#include <fmt/core.h>
#include <openssl/evp.h>

#include <bit>
#include <cmath>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/json_writer.h"
#include "http/dialect/encode_count.h"
#include "http/dialect/fields.h"
#include "http/dialect/openai.h"
#include "http/dialect/text_inputs.h"
#include "http/error_reply.h"
#include "http/json_body.h"

namespace cortex {
namespace {

constexpr std::size_t kMostInputs = 2048;

enum class EncodingFormat { floats, base64 };

EncodingFormat read_format(const JsonValue& body) {
  const std::string format = optional_string(body, "encoding_format").value_or("float");
  if (format == "float") return EncodingFormat::floats;
  if (format == "base64") return EncodingFormat::base64;
  throw Error(ErrorCode::invalid_value,
              fmt::format("encoding_format: unknown {}; one of float, base64", excerpt(format)), "encoding_format");
}

EmbedRequest read_embeddings(const JsonValue& body, const HttpRequest& http) {
  EmbedRequest request;
  TextInputs input = read_text_inputs(body.require("input"), "input", kMostInputs);
  request.inputs = std::move(input.texts);
  request.single = input.single;
  request.param = "input";
  request.model = optional_string(body, "model");
  request.truncation.allowed = optional_boolean(body, "truncate").value_or(false);
  if (const auto dimensions = body.get("dimensions")) request.dimensions = dimensions->integer();
  request.salt = salt_of(body, http);
  request.trace = http.id;
  return request;
}

// Little-endian float32, which is what this machine has in memory.
std::string base64(std::span<const float> vector) {
  static_assert(std::endian::native == std::endian::little);
  for (const float value : vector) {
    if (!std::isfinite(value)) throw Error(ErrorCode::numerical_error, "the model gave a non-finite number");
  }
  const auto bytes = static_cast<int>(vector.size_bytes());
  std::vector<unsigned char> text(static_cast<std::size_t>(bytes) / 3 * 4 + 5);
  const int size = EVP_EncodeBlock(text.data(), reinterpret_cast<const unsigned char*>(vector.data()), bytes);
  return {text.begin(), text.begin() + size};
}

std::string reply_json(const EmbedReply& done, EncodingFormat format) {
  JsonWriter json;
  json.begin_object().key("object").string("list").key("data").begin_array();
  for (std::size_t i = 0; i < done.vectors.size(); ++i) {
    json.begin_object().key("object").string("embedding").key("index").integer(static_cast<std::int64_t>(i));
    json.key("embedding");
    format == EncodingFormat::base64 ? json.string(base64(done.vectors[i])) : json.numbers(done.vectors[i]);
    json.end_object();
  }
  json.end_array().key("model").string(done.model).key("usage").begin_object();
  json.key("prompt_tokens").integer(done.cost.tokens).key("total_tokens").integer(done.cost.tokens).end_object();
  return json.end_object().take();
}

}  // namespace

void openai_embeddings(const OpenaiServices& services, const HttpRequest& request,
                       const std::shared_ptr<HttpReply>& reply) {
  const JsonBody document = JsonBody::parse(request.body);
  const EncodingFormat format = read_format(document.root());
  const EmbedRequest embed = read_embeddings(document.root(), request);
  Metrics& metrics = services.metrics;
  CancelEncode cancel = services.embed.embed(embed, [reply, format, trace = request.id, &metrics](EmbedReply done) {
    try {
      if (done.error) throw Error(*done.error);
      count_encoding(metrics, *reply, done.model, done.cost);
      respond_json(*reply, 200, reply_json(done, format), text_headers(done.cost));
    } catch (const Error& error) {
      respond_error(*reply, error, Dialect::openai, trace);
    }
  });
  reply->on_disconnect(std::move(cancel));
}

}  // namespace cortex

#include <fmt/core.h>

#include <type_traits>
#include <utility>

#include "base/error.h"
#include "base/excerpt.h"
#include "base/json_writer.h"
#include "cli/characters.h"
#include "cli/fetch/http_client.h"
#include "cli/interrupt.h"
#include "cli/text_encoder.h"
#include "http/json_body.h"

namespace cortex {
namespace {

constexpr std::size_t kLargestAnswerBytes = 256 << 20;

// The message of an error in either of the forms that servers have.
std::string message_in(const std::string& answer) {
  try {
    const JsonBody body = JsonBody::parse(answer);
    const auto error = body.root().get("error");
    if (error && error->is_string()) return error->string();
    if (error && error->is_object()) return error->require("message").string();
  } catch (const Error&) {
    return excerpt(answer);  // no JSON of ours
  }
  return excerpt(answer);
}

class ServerEncoder : public TextEncoder {
 public:
  ServerEncoder(const Url& url, std::string api_key, EncodeChoices choices)
      : url_(url),
        choices_(std::move(choices)),
        client_({.silence = std::chrono::seconds(0)}, InterruptWatch::interrupted) {
    if (api_key.empty()) return;
    if (!may_carry_secret(url, url)) {
      throw Error(ErrorCode::invalid_option, url.text + ": an API key is sent to https or this machine only");
    }
    headers_.push_back("Authorization: Bearer " + std::move(api_key));
  }

  std::vector<std::vector<float>> embed(const std::vector<std::string>& texts) override {
    JsonWriter json = begin(texts);
    json.key("normalize").boolean(choices_.normalize);
    const std::string answer = post("/embed", json.end_object().take());
    return understood(answer, JsonKind::object, [&](const JsonValue& root) {
      std::vector<std::vector<float>> vectors;
      for (const JsonValue& item : root.require("embeddings").items()) {
        auto& vector = vectors.emplace_back();
        for (const JsonValue& value : item.items()) vector.push_back(static_cast<float>(value.number()));
      }
      if (vectors.size() != texts.size()) throw root.error(ErrorCode::invalid_value, "another number of embeddings");
      return vectors;
    });
  }

  std::vector<float> score(const std::string& query, const std::vector<std::string>& texts) override {
    JsonWriter json = begin(texts);
    json.key("query").string(query);
    const std::string answer = post("/rerank", json.end_object().take());
    return understood(answer, JsonKind::array, [&](const JsonValue& root) {
      std::vector<float> scores(texts.size());
      const std::vector<JsonValue> results = root.items();
      if (results.size() != texts.size()) throw root.error(ErrorCode::invalid_value, "another number of scores");
      for (const JsonValue& result : results) {
        const auto last = static_cast<std::int64_t>(texts.size()) - 1;
        const auto index = static_cast<std::size_t>(result.require("index").integer_in(0, last));
        scores[index] = static_cast<float>(result.require("score").number());
      }
      return scores;
    });
  }

 private:
  JsonWriter begin(const std::vector<std::string>& texts) const {
    JsonWriter json;
    json.begin_object().key("texts").begin_array();
    for (const auto& text : texts) json.string(text);
    json.end_array().key("truncate").boolean(choices_.truncate);
    if (choices_.model) json.key("model").string(*choices_.model);
    return json;
  }

  std::string post(const std::string& path, std::string body) {
    ClientRequest request;
    request.url = address_below(url_, path);
    request.headers = headers_;
    request.body = std::move(body);
    std::string answer;
    const ReplyHead head = client_.send(request, append_to(&answer, kLargestAnswerBytes, "the server's answer"));
    if (head.status == 200) return answer;
    const std::string message =
        fmt::format("{} says: {} (status {})", url_.text, in_one_line(message_in(answer)), head.status);
    if (head.status >= 500 || head.status == 429) throw NetworkFailure(message);
    throw Error(ErrorCode::invalid_value, message);
  }

  template <typename Read>
  std::invoke_result_t<Read, const JsonValue&> understood(const std::string& answer, JsonKind kind, Read read) const {
    try {
      const JsonBody body = JsonBody::parse(answer, kind);
      return read(body.root());
    } catch (const Error& error) {
      throw Error(ErrorCode::internal_error,
                  fmt::format("{}: this answer is not understood: {}; is that Cortex?", url_.text, error.message()));
    }
  }

  Url url_;
  EncodeChoices choices_;
  HttpClient client_;
  std::vector<std::string> headers_;
};

}  // namespace

std::unique_ptr<TextEncoder> make_server_encoder(const Url& url, std::string api_key, EncodeChoices choices) {
  return std::make_unique<ServerEncoder>(url, std::move(api_key), std::move(choices));
}

}  // namespace cortex

#include "service/encode_batch.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "service/choice_text.h"
#include "service/encode_call.h"
#include "worker/wire.h"

namespace cortex {
namespace {

constexpr EncodeOptions kWithSpecialTokens{.add_special_tokens = true, .parse_special = false};
constexpr EncodeOptions kPlain{.add_special_tokens = false, .parse_special = false};
// Of tokens, or of numbers that come back: a frame's, less what goes along.
constexpr std::size_t kMostBytes = kMaxFrameBytes - (std::size_t{1} << 20);

Error empty(const std::string& param) {
  return Error(ErrorCode::empty_input, fmt::format("{}: is empty", param), param);
}

Error too_long(std::size_t limit, const std::string& what, std::size_t tokens, const std::string& param) {
  return Error(ErrorCode::context_length_exceeded,
               fmt::format("This model's maximum context length is {} tokens. {} has {}.", limit, what, tokens), param);
}

Error too_long(std::size_t limit, const std::string& param, std::size_t tokens) {
  return too_long(limit, param, tokens, param);
}

// At most so many bytes of the text, whole characters, from the end that is kept.
std::string_view whole_characters(std::string_view text, std::size_t bytes, TruncateSide cut) {
  const auto continues = [&](std::size_t i) { return (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80; };
  if (cut == TruncateSide::left) {
    std::size_t begin = text.size() - bytes;
    while (begin < text.size() && continues(begin)) ++begin;
    return text.substr(begin);
  }
  std::size_t end = bytes;
  while (end > 0 && continues(end)) --end;
  return text.substr(0, end);
}

}  // namespace

EncodeBatch::EncodeBatch(const ServedModel& model, const Clock& clock)
    : model_(model), clock_(clock), begun_(clock.steady_now()) {
  request_.model = model.name;
  if (model.rerank == RerankBy::generative) request_.scores = {model.answers.yes, model.answers.no};
}

void EncodeBatch::add_text(std::string_view text, const Truncation& truncation, const std::string& param,
                           std::string_view prompt) {
  text = take_in(text, truncation, param);
  std::vector<TokenId> ids = model_.tokenizer->encode(std::string(prompt).append(text), kWithSpecialTokens);
  // The special tokens around a text are those around no text: what is cut lies between them.
  const std::vector<TokenId> frame = model_.tokenizer->encode("", kWithSpecialTokens);
  const auto lead =
      static_cast<std::size_t>(std::mismatch(frame.begin(), frame.end(), ids.begin(), ids.end()).first - frame.begin());
  const auto limit = static_cast<std::size_t>(model_.context_tokens);
  const std::size_t most = truncation.most_tokens ? std::min(limit, frame.size() + *truncation.most_tokens) : limit;
  const std::size_t tokens = ids.size();
  if (ids.empty()) throw empty(param);
  if (!cut(&ids, most, truncation, lead, frame.size() - lead)) throw too_long(limit, param, tokens);
  add(std::move(ids), param);
}

std::string_view EncodeBatch::take_in(std::string_view text, const Truncation& truncation, const std::string& param) {
  if (text.empty()) throw empty(param);
  cost_.characters += static_cast<int>(count_characters(text));
  const std::size_t limit = model_.text_limit_bytes();
  if (text.size() <= limit) return text;
  if (!truncation.allowed) {
    throw Error(ErrorCode::request_too_large,
                fmt::format("{}: has {} bytes; the limit of this model is {}", param, text.size(), limit), param);
  }
  return whole_characters(text, limit, truncation.side);
}

void EncodeBatch::add_ids(std::span<const std::int64_t> ids, const Truncation& truncation, const std::string& param) {
  if (ids.empty()) throw empty(param);
  for (const std::int64_t id : ids) {
    if (id >= 0 && id < model_.vocabulary) continue;
    throw Error(ErrorCode::invalid_token_id,
                fmt::format("{}: token id {} is outside 0..{} (vocabulary size {})", param, id, model_.vocabulary - 1,
                            model_.vocabulary),
                param);
  }
  std::vector<TokenId> kept(ids.begin(), ids.end());
  const auto limit = static_cast<std::size_t>(model_.context_tokens);
  if (!cut(&kept, limit, truncation, 0, 0)) throw too_long(limit, param, ids.size());
  add(std::move(kept), param);
}

void EncodeBatch::set_query(std::string_view query, const std::string& param) {
  const RerankFrame& frame = model_.frame;
  query = take_in(query, {}, param);
  const std::vector<TokenId> ids =
      model_.tokenizer->encode(std::string(frame.query_lead).append(query) + frame.query_tail, kPlain);
  query_ = frame.before;
  query_.insert(query_.end(), ids.begin(), ids.end());
  query_.insert(query_.end(), frame.between.begin(), frame.between.end());
  const auto limit = static_cast<std::size_t>(model_.context_tokens);
  const std::size_t tokens = query_.size() + frame.behind.size();
  if (tokens < limit) return;
  throw Error(ErrorCode::context_length_exceeded,
              fmt::format("This model's maximum context length is {} tokens. {} has {} with all that is put around it, "
                          "which leaves no room for a document.",
                          limit, param, tokens),
              param);
}

void EncodeBatch::add_document(std::string_view document, const Truncation& truncation, const std::string& param) {
  const RerankFrame& frame = model_.frame;
  document = take_in(document, truncation, param);
  std::vector<TokenId> ids = model_.tokenizer->encode(std::string(frame.document_lead).append(document), kPlain);
  const auto limit = static_cast<std::size_t>(model_.context_tokens);
  const std::size_t around = query_.size() + frame.behind.size();
  const std::size_t tokens = around + ids.size();
  const std::size_t room = limit - around;
  if (!cut(&ids, std::min(room, truncation.most_tokens.value_or(room)), truncation, 0, 0)) {
    throw too_long(limit, fmt::format("{} with the query", param), tokens, param);
  }
  if (model_.token_types > 1) {
    auto& types = request_.types.emplace_back(query_.size(), frame.query_type);
    types.resize(around + ids.size(), frame.document_type);
  }
  ids.insert(ids.begin(), query_.begin(), query_.end());
  ids.insert(ids.end(), frame.behind.begin(), frame.behind.end());
  add(std::move(ids), param);
}

bool EncodeBatch::cut(std::vector<TokenId>* ids, std::size_t most, const Truncation& truncation, std::size_t lead,
                      std::size_t trail) {
  if (ids->size() <= most) return true;
  if (!truncation.allowed) return false;
  CORTEX_CHECK(lead + trail <= most);
  const auto excess = static_cast<std::ptrdiff_t>(ids->size() - most);
  const auto first = truncation.side == TruncateSide::left ? ids->begin() + static_cast<std::ptrdiff_t>(lead)
                                                           : ids->end() - static_cast<std::ptrdiff_t>(trail) - excess;
  ids->erase(first, first + excess);
  ++cost_.truncated;
  return true;
}

void EncodeBatch::add(std::vector<TokenId> ids, const std::string& param) {
  const std::size_t per_token = sizeof(TokenId) + (request_.types.empty() ? 0 : sizeof(std::int32_t));
  const std::size_t most_tokens = kMostBytes / per_token;
  const std::size_t tokens = static_cast<std::size_t>(cost_.tokens) + ids.size();
  if (tokens > most_tokens) {
    throw Error(ErrorCode::batch_too_large,
                fmt::format("{}: the texts up to here have {} tokens with what is put around each; at most {} in one "
                            "request",
                            param, tokens, most_tokens),
                param);
  }
  const std::size_t row_bytes = static_cast<std::size_t>(std::max(model_.dimensions, 2)) * sizeof(float);
  if (request_.texts.size() >= kMostBytes / row_bytes) {
    throw Error(ErrorCode::batch_too_large,
                fmt::format("{}: over {} texts in one request, as many as vectors of {} numbers are possible", param,
                            kMostBytes / row_bytes, row_bytes / sizeof(float)),
                param);
  }
  ++cost_.texts;
  cost_.tokens += static_cast<int>(ids.size());
  request_.texts.push_back(std::move(ids));
}

CancelEncode EncodeBatch::send(Admission::Ticket ticket, EmbedCache& cache, ThreadPool& threads, std::string salt,
                               std::string trace, EncodedBatchSink sink) && {
  for (const auto& text : request_.texts) ticket.require_short(text.size());
  request_.salt = std::move(salt);
  request_.trace = std::move(trace);
  cost_.tokenization_ms = milliseconds_between(begun_, clock_.steady_now());
  Engine& engine = ticket.engine();
  auto finish = [ticket = std::move(ticket), cost = cost_, begun = begun_, &clock = clock_,
                 sink = std::move(sink)](EncodedTexts encoded) mutable {
    cost.cached = encoded.cached;
    cost.queue_ms = encoded.queue_ms;
    cost.inference_ms = encoded.compute_ms;
    cost.total_ms = milliseconds_between(begun, clock.steady_now());
    EncodedBatch batch{{}, cost, std::move(encoded.error)};
    for (const EmbedVector& vector : encoded.vectors) {
      if (!batch.error) batch.vectors.push_back(*vector);
    }
    if (cost.cached < cost.texts) ticket.computed_for((cost.total_ms - cost.queue_ms) / 1000);
    // Who has the answer may ask again.
    ticket = Admission::Ticket();
    sink(std::move(batch));
  };
  const auto call = std::make_shared<EncodeCall>(std::move(request_), engine, cache, threads, std::move(finish));
  call->start();
  return [weak = std::weak_ptr<EncodeCall>(call)] {
    if (const auto running = weak.lock()) running->cancel();
  };
}

void normalise(std::span<float> vector) {
  double square = 0.0;
  for (const float value : vector) square += static_cast<double>(value) * value;
  if (square == 0.0) return;
  const double scale = 1.0 / std::sqrt(square);
  for (float& value : vector) value = static_cast<float>(value * scale);
}

}  // namespace cortex

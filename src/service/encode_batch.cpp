#include "service/encode_batch.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "service/request_ids.h"

namespace cortex {
namespace {

constexpr EncodeOptions kWithSpecialTokens{.add_special_tokens = true, .parse_special = false};

// Unicode characters of valid UTF-8.
int count_characters(std::string_view text) {
  return static_cast<int>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

Error empty(const std::string& param) {
  return Error(ErrorCode::empty_input, fmt::format("{}: is empty", param), param);
}

}  // namespace

EncodeBatch::EncodeBatch(const ServedModel& model, Truncation truncation, const Clock& clock)
    : model_(model), truncation_(truncation), clock_(clock), begun_(clock.steady_now()) {
  request_.id = next_request_id();
  request_.model = model.name;
}

void EncodeBatch::add_text(std::string_view text, const std::string& param) {
  if (text.empty()) throw empty(param);
  cost_.characters += count_characters(text);
  const std::size_t bytes = text.size();
  text = within_limit(text);
  if (text.size() < bytes && !truncation_.allowed) {
    throw Error(ErrorCode::request_too_large,
                fmt::format("{}: has {} bytes; the limit of this model is {}", param, bytes, model_.text_limit_bytes()),
                param);
  }
  std::vector<TokenId> ids = model_.tokenizer->encode(text, kWithSpecialTokens);
  // The special tokens around a text are those around no text: what is cut lies between them.
  const std::vector<TokenId> frame = model_.tokenizer->encode("", kWithSpecialTokens);
  const auto lead =
      static_cast<std::size_t>(std::mismatch(frame.begin(), frame.end(), ids.begin(), ids.end()).first - frame.begin());
  add(std::move(ids), lead, frame.size() - lead, param);
}

std::string_view EncodeBatch::within_limit(std::string_view text) const {
  const std::size_t limit = model_.text_limit_bytes();
  if (text.size() <= limit) return text;
  const auto continues = [&](std::size_t i) { return (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80; };
  if (truncation_.side == TruncateSide::left) {
    std::size_t begin = text.size() - limit;
    while (begin < text.size() && continues(begin)) ++begin;
    return text.substr(begin);
  }
  std::size_t end = limit;
  while (end > 0 && continues(end)) --end;
  return text.substr(0, end);
}

void EncodeBatch::add_ids(std::span<const std::int64_t> ids, const std::string& param) {
  if (ids.empty()) throw empty(param);
  for (const std::int64_t id : ids) {
    if (id >= 0 && id < model_.vocabulary) continue;
    throw Error(ErrorCode::invalid_token_id,
                fmt::format("{}: token id {} is outside 0..{} (vocabulary size {})", param, id, model_.vocabulary - 1,
                            model_.vocabulary),
                param);
  }
  add({ids.begin(), ids.end()}, 0, 0, param);
}

void EncodeBatch::add(std::vector<TokenId> ids, std::size_t lead, std::size_t trail, const std::string& param) {
  const auto limit = static_cast<std::size_t>(model_.context_tokens);
  if (ids.size() > limit) {
    if (!truncation_.allowed) {
      throw Error(ErrorCode::context_length_exceeded,
                  fmt::format("This model's maximum context length is {} tokens. {} has {}.", limit, param, ids.size()),
                  param);
    }
    CORTEX_CHECK(lead + trail < limit);
    const auto excess = static_cast<std::ptrdiff_t>(ids.size() - limit);
    const auto first = truncation_.side == TruncateSide::left ? ids.begin() + static_cast<std::ptrdiff_t>(lead)
                                                              : ids.end() - static_cast<std::ptrdiff_t>(trail) - excess;
    ids.erase(first, first + excess);
    ++cost_.truncated;
  }
  ++cost_.texts;
  cost_.tokens += static_cast<int>(ids.size());
  request_.texts.push_back(std::move(ids));
}

RequestId EncodeBatch::send(Admission::Ticket ticket, ThreadPool& threads, std::string salt, std::string trace,
                            EncodedBatchSink sink) && {
  request_.salt = std::move(salt);
  request_.trace = std::move(trace);
  cost_.tokenization_ms = milliseconds_between(begun_, clock_.steady_now());
  const RequestId id = request_.id;
  Engine& engine = ticket.engine();
  auto finish = [ticket = std::move(ticket), cost = cost_, begun = begun_, &clock = clock_,
                 sink = std::move(sink)](EncodeReply reply) mutable {
    cost.queue_ms = reply.queue_ms;
    cost.inference_ms = reply.compute_ms;
    cost.total_ms = milliseconds_between(begun, clock.steady_now());
    EncodedBatch batch{{}, cost, std::move(reply.error)};
    const auto size = static_cast<std::ptrdiff_t>(reply.dimensions);
    for (auto row = reply.vectors.begin(); row != reply.vectors.end(); row += size) {
      batch.vectors.emplace_back(row, row + size);
    }
    sink(std::move(batch));
  };
  // The engine's thread has better things to do than to write numbers as text.
  engine.encode(std::move(request_), [&threads, finish = std::move(finish)](EncodeReply reply) {
    threads.submit([finish, reply = std::move(reply)]() mutable { finish(std::move(reply)); });
  });
  return id;
}

void normalise(std::span<float> vector) {
  double square = 0.0;
  for (const float value : vector) square += static_cast<double>(value) * value;
  if (square == 0.0) return;
  const double scale = 1.0 / std::sqrt(square);
  for (float& value : vector) value = static_cast<float>(value * scale);
}

}  // namespace cortex

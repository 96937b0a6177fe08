#include "service/encode_call.h"

#include <fmt/core.h>

#include <algorithm>
#include <numeric>
#include <unordered_map>
#include <utility>

#include "service/request_ids.h"

namespace cortex {
namespace {

// [texts] of a reply, which comes from another process.
std::vector<EmbedVector> rows_of(const EncodeReply& reply, std::size_t texts) {
  const auto size = static_cast<std::size_t>(std::max(reply.dimensions, 0));
  if (size == 0 || reply.vectors.size() != texts * size) {
    throw Error(ErrorCode::internal_error, fmt::format("the engine gave {} numbers for {} texts of {}",
                                                       reply.vectors.size(), texts, reply.dimensions));
  }
  std::vector<EmbedVector> rows;
  for (auto row = reply.vectors.begin(); row != reply.vectors.end(); row += reply.dimensions) {
    rows.push_back(std::make_shared<const std::vector<float>>(row, row + reply.dimensions));
  }
  return rows;
}

}  // namespace

EncodeCall::EncodeCall(EncodeRequest request, Engine& engine, EmbedCache& cache, ThreadPool& threads,
                       EncodedTextsSink sink)
    : engine_(engine), cache_(cache), threads_(threads), request_(std::move(request)), sink_(std::move(sink)) {
  std::unordered_map<EmbedKey, std::size_t, EmbedKeyHash> seen;
  for (std::size_t i = 0; i < request_.texts.size(); ++i) {
    Text text{.index = i};
    if (cache_.on()) {
      text.key = embed_key(request_, i);
      const auto [it, is_new] = seen.emplace(text.key, texts_.size());
      places_.push_back(it->second);
      if (!is_new) continue;
    } else {
      places_.push_back(i);
    }
    texts_.push_back(std::move(text));
  }
  missing_ = texts_.size();
}

void EncodeCall::start() {
  {
    std::vector<std::size_t> all(texts_.size());
    std::iota(all.begin(), all.end(), std::size_t{0});
    std::lock_guard lock(mutex_);
    cache_.on() ? look_up(all) : compute({std::move(all), nullptr});
  }
  deliver();
}

void EncodeCall::cancel() {
  std::lock_guard lock(mutex_);
  if (over_) return;
  for (const RequestId id : computing_) engine_.cancel(id);
  end(Error(ErrorCode::cancelled, "the request was cancelled"));
  threads_.submit([self = shared_from_this()] { self->deliver(); });
}

void EncodeCall::look_up(const std::vector<std::size_t>& texts) {
  std::vector<EmbedCache::Text> wanted;
  for (const std::size_t i : texts) wanted.push_back({texts_[i].key, request_.texts[texts_[i].index].size()});
  EmbedCache::Found found = cache_.look_up(
      wanted,
      [self = shared_from_this(), texts](std::size_t i, const EmbedVector& vector) { self->arrive(texts[i], vector); });
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (found.vectors[i]) fill(texts[i], std::move(found.vectors[i]));
  }
  std::vector<std::size_t> claimed;
  for (const std::size_t i : found.claimed) claimed.push_back(texts[i]);
  if (!claimed.empty()) compute({std::move(claimed), std::move(found.claim)});
  end_if_complete();
}

void EncodeCall::compute(Batch batch) {
  EncodeRequest request;
  request.id = next_request_id();
  request.model = request_.model;
  request.scores = request_.scores;
  request.priority = request_.priority;
  request.salt = request_.salt;
  request.trace = request_.trace;
  for (const std::size_t i : batch.texts) {
    Text& text = texts_[i];
    text.computed = true;
    request.texts.push_back(std::move(request_.texts[text.index]));
    if (!request_.types.empty()) request.types.push_back(std::move(request_.types[text.index]));
  }
  computing_.push_back(request.id);
  // The engine's thread has better things to do than to look into replies, or to copy what a sink holds.
  engine_.encode(std::move(request),
                 [self = shared_from_this(), shared = std::make_shared<Batch>(std::move(batch))](EncodeReply reply) {
                   self->threads_.submit([self, shared, reply = std::move(reply)] { self->take_in(*shared, reply); });
                 });
}

void EncodeCall::take_in(Batch& batch, const EncodeReply& reply) {
  std::vector<EmbedVector> rows;
  std::optional<Error> error = reply.error;
  try {
    if (!error) rows = rows_of(reply, batch.texts.size());
  } catch (const Error& broken) {
    error = broken;
  }
  for (std::size_t i = 0; batch.claim && i < rows.size(); ++i) batch.claim->give(i, rows[i]);
  batch.claim.reset();
  {
    std::lock_guard lock(mutex_);
    if (over_) return;
    done_.queue_ms += reply.queue_ms;
    done_.compute_ms += reply.compute_ms;
    for (std::size_t i = 0; i < rows.size(); ++i) fill(batch.texts[i], std::move(rows[i]));
    error ? end(std::move(error)) : end_if_complete();
  }
  deliver();
}

// Who computed it is not kept from its own work.
void EncodeCall::arrive(std::size_t text, const EmbedVector& vector) {
  std::lock_guard lock(mutex_);
  if (over_) return;
  if (vector) {
    fill(text, vector);
    end_if_complete();
    if (over_) threads_.submit([self = shared_from_this()] { self->deliver(); });
    return;
  }
  // Of those that are lost together the first has all of them looked up again.
  lost_.push_back(text);
  if (lost_.size() == 1) threads_.submit([self = shared_from_this()] { self->look_again(); });
}

void EncodeCall::look_again() {
  {
    std::lock_guard lock(mutex_);
    if (over_) return;
    look_up(std::exchange(lost_, {}));
  }
  deliver();
}

void EncodeCall::deliver() {
  EncodedTexts done;
  EncodedTextsSink sink;
  {
    std::lock_guard lock(mutex_);
    if (!over_) return;
    done = std::move(done_);
    sink = std::exchange(sink_, nullptr);
  }
  if (sink) sink(std::move(done));
}

void EncodeCall::fill(std::size_t text, EmbedVector vector) {
  texts_[text].vector = std::move(vector);
  --missing_;
}

void EncodeCall::end_if_complete() {
  if (missing_ == 0) end(std::nullopt);
}

void EncodeCall::end(std::optional<Error> error) {
  over_ = true;
  // Of equal texts the first is the one that was computed.
  for (std::size_t i = 0; i < places_.size(); ++i) {
    const Text& text = texts_[places_[i]];
    done_.vectors.push_back(text.vector);
    if (text.vector && !(text.computed && text.index == i)) ++done_.cached;
  }
  if (cache_.on()) {
    const auto computed = std::count_if(texts_.begin(), texts_.end(), [](const Text& text) { return text.computed; });
    cache_.count(request_.model, {static_cast<std::uint64_t>(done_.cached), static_cast<std::uint64_t>(computed)});
  }
  done_.error = std::move(error);
  texts_.clear();
  request_ = {};
}

}  // namespace cortex

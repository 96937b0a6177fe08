#include "engine/text_sequences.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"

namespace cortex {

void TextSequences::add(EncodeRequest request) {
  CORTEX_CHECK(!request.texts.empty());
  for (const auto& text : request.texts) scheduler_->require_room(text.size(), 0);
  const RequestId id = request.id;
  Job& job = jobs_[id];
  job.request = std::move(request);
  try {
    feed(&job);
  } catch (...) {
    cancel(id);
    throw;
  }
}

bool TextSequences::cancel(RequestId id) {
  scheduler_->cancel(id);
  return jobs_.erase(id) > 0;
}

std::optional<EncodeEvent> TextSequences::take(SequenceEvent event) {
  const auto it = jobs_.find(event.id);
  if (it == jobs_.end()) return std::nullopt;
  Job& job = it->second;
  EncodeEvent over{event.id, {}};
  if (event.event.error) {
    over.reply.error = std::move(event.event.error);
  } else if (!std::ranges::all_of(event.row, [](float value) { return std::isfinite(value); })) {
    over.reply.error = Error(ErrorCode::numerical_error, "the model gave a non-finite number for one of the texts");
  } else {
    keep(&job, event.text.value(), event.row);
    feed(&job);
    if (job.done < job.request.texts.size()) return std::nullopt;
    over.reply = std::move(job.reply);
  }
  cancel(event.id);
  return over;
}

void TextSequences::feed(Job* job) {
  const auto& texts = job->request.texts;
  for (; job->next < texts.size() && job->inside_tokens < window_tokens_; ++job->next) {
    const auto& tokens = texts[job->next];
    scheduler_->add(
        {job->request.id, job->next, tokens, job->request.scores, job->request.priority, job->request.salt});
    job->inside_tokens += tokens.size();
  }
}

void TextSequences::keep(Job* job, std::size_t text, const std::vector<float>& row) {
  const std::size_t texts = job->request.texts.size();
  if (job->done == 0) {
    job->reply.dimensions = static_cast<int>(row.size());
    job->reply.vectors.resize(texts * row.size());
  }
  CORTEX_CHECK(text < texts && row.size() == static_cast<std::size_t>(job->reply.dimensions));
  std::ranges::copy(row, job->reply.vectors.begin() + static_cast<std::ptrdiff_t>(text * row.size()));
  job->inside_tokens -= job->request.texts[text].size();
  ++job->done;
}

}  // namespace cortex

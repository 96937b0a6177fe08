#include "engine/encode_queue.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

namespace cortex {

EncodeQueue::EncodeQueue(int batch_tokens) : batch_tokens_(static_cast<std::size_t>(batch_tokens)) {
  if (batch_tokens < 1 || batch_tokens > kMostBatchTokens) {
    throw Error(ErrorCode::invalid_option,
                fmt::format("encode_batch_tokens: {} is not in [1, {}]", batch_tokens, kMostBatchTokens));
  }
}

void EncodeQueue::add(EncodeRequest request) {
  CORTEX_CHECK(!in_batch_ && !request.texts.empty());
  jobs_.push_back({std::move(request), turns_++, 0, {}});
}

bool EncodeQueue::cancel(RequestId id) {
  CORTEX_CHECK(!in_batch_);
  return std::erase_if(jobs_, [&](const Job& job) { return job.request.id == id; }) > 0;
}

const PackedTexts& EncodeQueue::plan(int most_tokens) {
  CORTEX_CHECK(!in_batch_);
  in_batch_ = true;
  planned_ids_.clear();
  std::ranges::sort(jobs_, {}, [](const Job& job) { return std::pair(job.request.priority, job.turn); });
  batch_.starts.push_back(0);
  for (std::size_t i = 0; i < jobs_.size(); ++i) {
    if (!pack(i, std::min(batch_tokens_, static_cast<std::size_t>(most_tokens)))) break;
  }
  if (planned_.empty()) end_batch();
  return batch_;
}

std::vector<EncodeEvent> EncodeQueue::commit(const EncodeResult& result) {
  CORTEX_CHECK(in_batch_ && result.dimensions > 0);
  const auto dimensions = static_cast<std::size_t>(result.dimensions);
  CORTEX_CHECK(result.pooled.size() == (batch_.starts.size() - 1) * dimensions);
  std::vector<EncodeEvent> over;
  std::span<const float> vectors = result.pooled;
  for (const Planned& planned : planned_) {
    Job& job = jobs_[planned.job];
    const auto mine = vectors.first(planned.texts * dimensions);
    vectors = vectors.subspan(mine.size());
    job.reply.dimensions = result.dimensions;
    job.reply.vectors.insert(job.reply.vectors.end(), mine.begin(), mine.end());
    job.done += planned.texts;
    job.turn = turns_++;
    if (!std::ranges::all_of(mine, [](float value) { return std::isfinite(value); })) {
      job.reply = {};
      job.reply.error = Error(ErrorCode::numerical_error, "the model gave a non-finite number for one of the texts");
    } else if (job.done < job.request.texts.size()) {
      continue;
    }
    over.push_back({job.request.id, std::move(job.reply)});
  }
  std::erase_if(
      jobs_, [&](const Job& job) { return std::ranges::find(over, job.request.id, &EncodeEvent::id) != over.end(); });
  end_batch();
  return over;
}

void EncodeQueue::fail_batch() {
  CORTEX_CHECK(in_batch_);
  std::erase_if(jobs_,
                [&](const Job& job) { return std::ranges::find(planned_ids_, job.request.id) != planned_ids_.end(); });
  end_batch();
}

bool EncodeQueue::pack(std::size_t index, std::size_t most_tokens) {
  const Job& job = jobs_[index];
  const auto fits = [&](const std::vector<TokenId>& text) {
    return batch_.tokens.empty() || batch_.tokens.size() + text.size() <= most_tokens;
  };
  std::size_t i = job.done;
  if (!fits(job.request.texts[i])) return false;
  planned_ids_.push_back(job.request.id);
  Planned& planned = planned_.emplace_back(Planned{index, 0});
  for (; i < job.request.texts.size() && fits(job.request.texts[i]); ++i) {
    const auto& text = job.request.texts[i];
    batch_.tokens.insert(batch_.tokens.end(), text.begin(), text.end());
    if (job.request.types.empty()) {
      batch_.types.insert(batch_.types.end(), text.size(), 0);
    } else {
      batch_.types.insert(batch_.types.end(), job.request.types[i].begin(), job.request.types[i].end());
    }
    batch_.starts.push_back(static_cast<std::int32_t>(batch_.tokens.size()));
    ++planned.texts;
  }
  return i == job.request.texts.size();
}

void EncodeQueue::end_batch() {
  in_batch_ = false;
  batch_ = {};
  planned_.clear();
}

}  // namespace cortex

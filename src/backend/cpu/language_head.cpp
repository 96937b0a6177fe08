#include "backend/cpu/language_head.h"

#include <algorithm>
#include <cmath>

#include "backend/cpu/buffer.h"
#include "backend/cpu/kernels.h"

namespace cortex {
namespace {

// Of the vocabulary in a chunk: what 64 rows of it take lies in a core's own cache.
constexpr int kChunkOutputs = 1024;

void keep_top(std::span<const float> logits, int first_token, int count, std::vector<TokenLogit>& top) {
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const TokenLogit logit{first_token + static_cast<TokenId>(i), logits[i]};
    if (top.size() == static_cast<std::size_t>(count)) {
      if (!likelier(logit, top.front())) continue;
      std::pop_heap(top.begin(), top.end(), likelier);
      top.pop_back();
    }
    top.push_back(logit);
    std::push_heap(top.begin(), top.end(), likelier);
  }
}

}  // namespace

void LanguageHead::run(ThreadTeam& team, const Projection& projection, int vocabulary, const InputRows& in,
                       std::span<const WantedRow> wanted, std::span<RowResult> results) {
  vocabulary_ = vocabulary;
  chunks_ = 0;
  whole_ = std::any_of(wanted.begin(), wanted.end(), wants_every_logit);
  if (std::any_of(wanted.begin(), wanted.end(), wants_logits)) {
    chunks_ = (vocabulary + kChunkOutputs - 1) / kChunkOutputs;
    if (whole_) make_room(logits_, wanted.size() * static_cast<std::size_t>(projection.outputs()));
    make_room(sums_, wanted.size() * static_cast<std::size_t>(chunks_));
    scores_.resize(wanted.size());
    for (std::size_t row = 0; row < wanted.size(); ++row) scores_[row].resize(wanted[row].scores.size());
    workers_.resize(static_cast<std::size_t>(team.size()));
    for (Worker& worker : workers_) worker.rows.assign(wanted.size(), {});
    next_chunk_ = 0;
    team.run(std::min(chunks_, team.size()),
             [&](int index) { see_chunks(projection, in, wanted, workers_[static_cast<std::size_t>(index)]); });
  }
  const auto finish = [&](int begin, int end) {
    for (auto row = static_cast<std::size_t>(begin); row < static_cast<std::size_t>(end); ++row) {
      std::span<const float> logits, hidden;
      if (whole_) {
        logits = {logits_.data() + row * static_cast<std::size_t>(projection.outputs()),
                  static_cast<std::size_t>(vocabulary)};
      }
      if (wanted[row].hidden) hidden = {in.row(static_cast<int>(row)), static_cast<std::size_t>(in.columns())};
      results[row] = sample_row(summary_of(row, wanted[row]), logits, hidden, wanted[row]);
    }
  };
  const int rows = static_cast<int>(wanted.size());
  if (whole_) return team.parallel_for(rows, finish);
  finish(0, rows);
}

void LanguageHead::see_chunks(const Projection& projection, const InputRows& in, std::span<const WantedRow> wanted,
                              Worker& worker) {
  const auto stride = static_cast<std::size_t>(whole_ ? projection.outputs() : kChunkOutputs);
  if (!whole_) make_room(worker.logits, wanted.size() * stride);
  for (int chunk = next_chunk_.fetch_add(1); chunk < chunks_; chunk = next_chunk_.fetch_add(1)) {
    const int first = chunk * kChunkOutputs;
    float* logits = whole_ ? logits_.data() + first : worker.logits.data();
    projection.run_outputs(in.view(), static_cast<int>(wanted.size()), first,
                           std::min(projection.outputs(), first + kChunkOutputs), logits, stride);
    const auto count = static_cast<std::size_t>(std::min(vocabulary_ - first, kChunkOutputs));
    for (std::size_t row = 0; row < wanted.size(); ++row) {
      if (wants_logits(wanted[row])) see(chunk, row, {logits + row * stride, count}, wanted[row], worker.rows[row]);
    }
  }
}

void LanguageHead::see(int chunk, std::size_t row, std::span<const float> logits, const WantedRow& wanted, Seen& seen) {
  Sum& sum = sums_[row * static_cast<std::size_t>(chunks_) + static_cast<std::size_t>(chunk)];
  kernels().log_sum(logits.data(), logits.size(), &sum.largest, &sum.of_exponents);
  if (std::isnan(sum.of_exponents)) return;
  const int first = chunk * kChunkOutputs;
  const auto biased = [&](const std::pair<TokenId, float>& bias) {
    return bias.first >= first && static_cast<std::size_t>(bias.first - first) < logits.size();
  };
  const bool may_choose = takes_greedy_choice(wanted) && (sum.largest > seen.choice.biased.logit ||
                                                          std::ranges::any_of(wanted.sampling.logit_bias, biased));
  if (may_choose || sum.largest > seen.likeliest.logit) {
    const auto at = std::find(logits.begin(), logits.end(), sum.largest);
    const TokenLogit likeliest{first + static_cast<TokenId>(at - logits.begin()), sum.largest};
    if (likelier(likeliest, seen.likeliest)) seen.likeliest = likeliest;
    if (may_choose) {
      const GreedyChoice choice = greedy_choice(logits, first, likeliest, wanted.sampling);
      if (likelier(choice.biased, seen.choice.biased)) seen.choice = choice;
    }
  }
  if (wanted.top_logprobs > 0) keep_top(logits, first, wanted.top_logprobs, seen.top);
  for (std::size_t i = 0; i < wanted.scores.size(); ++i) {
    const auto at = static_cast<std::size_t>(wanted.scores[i] - first);
    if (wanted.scores[i] >= first && at < logits.size()) scores_[row][i] = logits[at];
  }
}

LogitSummary LanguageHead::summary_of(std::size_t row, const WantedRow& wanted) {
  LogitSummary summary;
  if (!wants_logits(wanted)) return summary;
  for (const Worker& worker : workers_) {
    const Seen& seen = worker.rows[row];
    if (likelier(seen.likeliest, summary.likeliest)) summary.likeliest = seen.likeliest;
    if (likelier(seen.choice.biased, summary.choice.biased)) summary.choice = seen.choice;
    summary.top.insert(summary.top.end(), seen.top.begin(), seen.top.end());
  }
  double sum = 0.0;
  const std::span<const Sum> sums(sums_.data() + row * static_cast<std::size_t>(chunks_),
                                  static_cast<std::size_t>(chunks_));
  for (const Sum& part : sums) {
    sum += part.of_exponents * std::exp(static_cast<double>(part.largest) - summary.likeliest.logit);
  }
  summary.finite = std::isfinite(sum);
  summary.log_sum_exp = summary.likeliest.logit + std::log(sum);
  const std::size_t kept = std::min(static_cast<std::size_t>(wanted.top_logprobs), summary.top.size());
  std::partial_sort(summary.top.begin(), summary.top.begin() + static_cast<std::ptrdiff_t>(kept), summary.top.end(),
                    likelier);
  summary.top.resize(kept);
  summary.scores = scores_[row];
  return summary;
}

std::size_t LanguageHead::needed_bytes(int rows, int outputs, int vocabulary, int threads) {
  const int chunks = (vocabulary + kChunkOutputs - 1) / kChunkOutputs;
  const auto of_row = static_cast<std::size_t>(outputs + std::min(chunks, threads) * kChunkOutputs) * sizeof(float) +
                      static_cast<std::size_t>(chunks) * sizeof(Sum);
  return static_cast<std::size_t>(rows) * of_row;
}

std::size_t LanguageHead::memory_bytes() const {
  std::size_t floats = logits_.capacity();
  for (const Worker& worker : workers_) floats += worker.logits.capacity();
  return floats * sizeof(float) + sums_.capacity() * sizeof(Sum);
}

}  // namespace cortex

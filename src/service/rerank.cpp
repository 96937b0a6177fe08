#include "service/rerank.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace cortex {
namespace {

// vectors: [1 + texts][dimensions], the query's first.
std::vector<float> cosines(std::vector<std::vector<float>> vectors) {
  for (auto& vector : vectors) normalise(vector);
  const auto& query = vectors.front();
  std::vector<float> scores;
  for (std::size_t i = 1; i < vectors.size(); ++i) {
    const double cosine = std::inner_product(query.begin(), query.end(), vectors[i].begin(), 0.0);
    scores.push_back(static_cast<float>(cosine));
  }
  return scores;
}

// vectors: [texts][1], a head's logit, or [texts][2], the log-probabilities of yes and no.
std::vector<float> logits(const std::vector<std::vector<float>>& vectors, RerankBy by) {
  std::vector<float> scores;
  for (const auto& vector : vectors) {
    if (vector.size() != (by == RerankBy::head ? 1 : 2)) {
      throw Error(ErrorCode::internal_error, fmt::format("the engine gave {} scores of a text", vector.size()));
    }
    scores.push_back(by == RerankBy::head ? vector[0] : vector[0] - vector[1]);
  }
  return scores;
}

float sigmoid(float logit) { return static_cast<float>(1.0 / (1.0 + std::exp(-static_cast<double>(logit)))); }

std::vector<RerankResult> best_first(const std::vector<float>& scores, std::size_t most) {
  std::vector<RerankResult> results;
  for (const float score : scores) results.push_back({static_cast<int>(results.size()), score});
  std::stable_sort(results.begin(), results.end(),
                   [](const RerankResult& a, const RerankResult& b) { return a.score > b.score; });
  results.resize(std::min(most, results.size()));
  return results;
}

void add_inputs(const RerankRequest& request, RerankBy by, EncodeBatch* batch) {
  const bool cosine = by == RerankBy::cosine;
  if (cosine) {
    batch->add_text(request.query, request.query_truncation, "query");
  } else {
    batch->set_query(request.query, "query");
  }
  for (std::size_t i = 0; i < request.texts.size(); ++i) {
    const std::string param = fmt::format("{}[{}]", request.param, i);
    if (cosine) {
      batch->add_text(request.texts[i], request.truncation, param);
    } else {
      batch->add_document(request.texts[i], request.truncation, param);
    }
  }
}

}  // namespace

CancelEncode RerankService::rerank(const RerankRequest& request, RerankSink sink) {
  const ServedModel& model = models_.find(request.model, Task::rerank);
  if (request.texts.empty()) {
    throw Error(ErrorCode::empty_input, fmt::format("{}: is empty", request.param), request.param);
  }
  Admission::Ticket ticket = admission_.enter(model.name);
  EncodeBatch batch(model, clock_);
  const RerankBy by = model.rerank.value();
  add_inputs(request, by, &batch);
  const auto top_n = static_cast<std::size_t>(request.top_n.value_or(0));
  const auto wall_time = clock_.wall_now().time_since_epoch();
  auto finish = [name = model.name, created_s = std::chrono::duration_cast<std::chrono::seconds>(wall_time).count(),
                 pairs = static_cast<int>(request.texts.size()), by, raw = request.raw_scores,
                 most = top_n > 0 ? top_n : request.texts.size(), sink = std::move(sink)](EncodedBatch encoded) {
    RerankReply reply{name, created_s, {}, pairs, encoded.cost, std::move(encoded.error)};
    try {
      if (!reply.error) {
        const auto scores = by == RerankBy::cosine ? cosines(std::move(encoded.vectors)) : logits(encoded.vectors, by);
        reply.results = best_first(scores, most);
      }
    } catch (const Error& error) {
      reply.error = error;
    }
    for (RerankResult& result : reply.results) {
      if (by != RerankBy::cosine && !raw) result.score = sigmoid(result.score);
    }
    sink(std::move(reply));
  };
  return std::move(batch).send(std::move(ticket), cache_, text_threads_, request.salt, request.trace,
                               std::move(finish));
}

}  // namespace cortex

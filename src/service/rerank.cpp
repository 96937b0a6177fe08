#include "service/rerank.h"

#include <fmt/core.h>

#include <algorithm>
#include <numeric>
#include <utility>

namespace cortex {
namespace {

// vectors: [1 + texts][dimensions], the query's first.
std::vector<RerankResult> rank_by_cosine(std::vector<std::vector<float>> vectors, std::size_t most) {
  for (auto& vector : vectors) normalise(vector);
  const auto& query = vectors.front();
  std::vector<RerankResult> results;
  for (std::size_t i = 1; i < vectors.size(); ++i) {
    const double cosine = std::inner_product(query.begin(), query.end(), vectors[i].begin(), 0.0);
    results.push_back({static_cast<int>(i - 1), static_cast<float>(cosine)});
  }
  std::stable_sort(results.begin(), results.end(),
                   [](const RerankResult& a, const RerankResult& b) { return a.score > b.score; });
  results.resize(std::min(most, results.size()));
  return results;
}

}  // namespace

RequestId RerankService::rerank(const RerankRequest& request, RerankSink sink) {
  const ServedModel& model = models_.find(request.model, Task::rerank);
  if (request.texts.empty()) throw Error(ErrorCode::empty_input, "texts: is empty", "texts");
  Admission::Ticket ticket = admission_.enter(model.name);
  EncodeBatch batch(model, request.truncation, clock_);
  batch.add_text(request.query, "query");
  for (std::size_t i = 0; i < request.texts.size(); ++i) {
    batch.add_text(request.texts[i], fmt::format("texts[{}]", i));
  }
  const auto top_n = static_cast<std::size_t>(request.top_n.value_or(0));
  return std::move(batch).send(std::move(ticket), text_threads_, request.salt, request.trace,
                               [name = model.name, most = top_n > 0 ? top_n : request.texts.size(),
                                sink = std::move(sink)](EncodedBatch encoded) {
                                 RerankReply reply{name, {}, encoded.cost, std::move(encoded.error)};
                                 if (!reply.error) reply.results = rank_by_cosine(std::move(encoded.vectors), most);
                                 sink(std::move(reply));
                               });
}

}  // namespace cortex

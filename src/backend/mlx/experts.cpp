#include "backend/mlx/experts.h"

#include <cstdint>
#include <vector>

#include "backend/mlx/checked_ids.h"

namespace cortex {
namespace {

// What the experts gave, [T * per_token, hidden] as `routing` lists it, weighed and added up for each row: [T, hidden].
mx::array sum_of_rows(const std::vector<ExpertRows>& routing, const mx::array& outputs, int per_token) {
  const int rows = outputs.shape(0) / per_token;
  std::vector<std::int32_t> places(static_cast<std::size_t>(outputs.shape(0)));  // [T, per_token]
  std::vector<float> weights(places.size());
  std::vector<std::size_t> filled(static_cast<std::size_t>(rows));
  std::int32_t place = 0;
  for (const ExpertRows& mine : routing) {
    for (std::size_t i = 0; i < mine.rows.size(); ++i) {
      const auto row = static_cast<std::size_t>(mine.rows[i]);
      const std::size_t at = row * static_cast<std::size_t>(per_token) + filled[row]++;
      places[at] = place++;
      weights[at] = mine.weights[i];
    }
  }
  const mx::array terms = mx::reshape(take(outputs, CheckedIds(places, outputs.shape(0)), 0), {rows, per_token, -1});
  return mx::sum(terms * mx::array(weights.data(), {rows, per_token, 1}, kDtype), 1);
}

}  // namespace

MlxExperts::MlxExperts(const ExpertsSpec& spec, Activation activation, const DecoderLayerWeights& weights)
    : spec_(spec), router_({weights.router.value()}) {
  for (const ExpertWeights& expert : weights.experts) {
    experts_.emplace_back(activation, expert.gate, expert.up, expert.down);
  }
}

mx::array MlxExperts::operator()(const mx::array& x) const {
  mx::array logits = mx::contiguous(router_(x));
  logits.eval();
  const std::vector<ExpertRows> routing = route({logits.data<float>(), logits.size()}, spec_);
  std::vector<mx::array> outputs;
  for (const ExpertRows& mine : routing) {
    outputs.push_back(experts_[static_cast<std::size_t>(mine.expert)](take(x, CheckedIds(mine.rows, x.shape(0)), 0)));
  }
  return sum_of_rows(routing, mx::concatenate(outputs, 0), spec_.per_token);
}

std::size_t MlxExperts::bytes() const {
  std::size_t bytes = router_.bytes();
  for (const MlxFeedForward& expert : experts_) bytes += expert.bytes();
  return bytes;
}

}  // namespace cortex

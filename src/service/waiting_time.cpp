#include "service/waiting_time.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace cortex {

void WaitingTime::note(const std::string& model, double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return;
  std::deque<double>& lately = lately_[model];
  lately.push_back(seconds);
  if (lately.size() > kRemembered) lately.pop_front();
}

double WaitingTime::predict_s(const std::map<std::string, int>& under_way, int running) const {
  int requests = 0;
  double work_s = 0.0;
  for (const auto& [model, count] : under_way) {
    requests += count;
    work_s += count * usual_s(model);
  }
  if (requests == 0) return kLeastSeconds;
  const int at_a_time = running > 0 ? std::min(running, requests) : requests;
  // When none waits, the newcomer waits for the first to end.
  const int ahead = std::max(requests - at_a_time, 1);
  return std::clamp(work_s / requests * ahead / at_a_time, kLeastSeconds, kMostSeconds);
}

double WaitingTime::usual_s(const std::string& model) const {
  const auto found = lately_.find(model);
  if (found == lately_.end()) return 0.0;
  std::vector<double> sorted(found->second.begin(), found->second.end());
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  return *middle;
}

}  // namespace cortex

// How long a newcomer would wait for its turn, predicted from how long requests took lately: those before it, each as
// long as is usual for its model, shared by as many as are computed at a time. Pure bookkeeping; one owner, which
// locks.
#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <string>

namespace cortex {

class WaitingTime {
 public:
  static constexpr std::size_t kRemembered = 32;  // requests of each model
  static constexpr double kLeastSeconds = 1.0;
  static constexpr double kMostSeconds = 60.0;

  // One of the model's requests is over; it took that long without its waiting. The models are those that are
  // configured, so that there are few.
  void note(const std::string& model, double seconds);

  // `under_way`: requests that are computed or wait, by model. `running`: how many of them are computed now, as far as
  // is known; 0: not known, then all. In kLeastSeconds..kMostSeconds.
  double predict_s(const std::map<std::string, int>& under_way, int running) const;

 private:
  // The median, or nothing known: 0.
  double usual_s(const std::string& model) const;

  std::map<std::string, std::deque<double>> lately_;  // the newest last
};

}  // namespace cortex

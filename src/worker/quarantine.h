// Which requests may be what kills workers. A request is known by its fingerprint; one that was in flight at a death is
// a suspect and runs alone the next time; one that was a suspect and alone at a death is refused for a while. Pure: the
// caller says what time it is. Owned by WorkerClient, its thread only.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <set>
#include <span>

#include "engine/request.h"

namespace cortex {

using Fingerprint = std::uint64_t;

// Of a request's model and tokens.
Fingerprint fingerprint_of(const GenerateRequest& request);
Fingerprint fingerprint_of(const EncodeRequest& request);

class Quarantine {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  static constexpr std::chrono::minutes kTerm{10};  // of suspicion and of refusal

  enum class Verdict { run, run_alone, refuse };
  Verdict verdict(Fingerprint fingerprint, TimePoint now);
  // The worker died with these in flight.
  void died(std::span<const Fingerprint> in_flight, TimePoint now);
  // The worker has served it, whole or until it was told to stop, and lives: no suspect any more.
  void survived(Fingerprint fingerprint) { suspects_.erase(fingerprint); }

 private:
  void forget(TimePoint now);

  std::map<Fingerprint, TimePoint> suspects_;  // until when
  std::map<Fingerprint, TimePoint> refused_;   // until when
};

}  // namespace cortex

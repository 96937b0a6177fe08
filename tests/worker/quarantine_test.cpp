#include "worker/quarantine.h"

#include <gtest/gtest.h>

namespace cortex {
namespace {

using Verdict = Quarantine::Verdict;
using std::chrono::minutes;
using std::chrono::seconds;

std::vector<Fingerprint> list(std::initializer_list<Fingerprint> fingerprints) { return fingerprints; }

TEST(Quarantine, SuspectsRunAloneAndTheCulpritIsRefused) {
  Quarantine quarantine;
  const Quarantine::TimePoint now;
  EXPECT_EQ(quarantine.verdict(1, now), Verdict::run);
  quarantine.died(list({1, 2, 3}), now);
  EXPECT_EQ(quarantine.verdict(1, now), Verdict::run_alone);
  EXPECT_EQ(quarantine.verdict(2, now), Verdict::run_alone);
  EXPECT_EQ(quarantine.verdict(4, now), Verdict::run);
  quarantine.survived(2);
  EXPECT_EQ(quarantine.verdict(2, now), Verdict::run);
  quarantine.died(list({1}), now);
  EXPECT_EQ(quarantine.verdict(1, now), Verdict::refuse);
  EXPECT_EQ(quarantine.verdict(3, now), Verdict::run_alone);
}

TEST(Quarantine, OneDeathAloneIsNoProof) {
  Quarantine quarantine;
  const Quarantine::TimePoint now;
  quarantine.died(list({1}), now);
  EXPECT_EQ(quarantine.verdict(1, now), Verdict::run_alone);
}

TEST(Quarantine, IsForgottenAfterItsTerm) {
  Quarantine quarantine;
  const Quarantine::TimePoint now;
  quarantine.died(list({1}), now);
  quarantine.died(list({1}), now + minutes(1));
  EXPECT_EQ(quarantine.verdict(1, now + minutes(11) - seconds(1)), Verdict::refuse);
  EXPECT_EQ(quarantine.verdict(1, now + minutes(11)), Verdict::run);
}

TEST(Quarantine, AFingerprintIsTheModelAndTheTokens) {
  GenerateRequest request;
  request.model = "m";
  request.prompt = {1, 2, 3};
  GenerateRequest same = request;
  same.id = 9;
  same.sampling.seed = 4;
  EXPECT_EQ(fingerprint_of(request), fingerprint_of(same));
  same.prompt = {1, 2, 4};
  EXPECT_NE(fingerprint_of(request), fingerprint_of(same));
  same = request;
  same.model = "n";
  EXPECT_NE(fingerprint_of(request), fingerprint_of(same));
  EncodeRequest one, other;
  one.texts = {{1, 2}, {3}};
  other.texts = {{1}, {2, 3}};
  EXPECT_NE(fingerprint_of(one), fingerprint_of(other));
}

}  // namespace
}  // namespace cortex

// kv_soak DIRECTORY [ROUNDS [SEED]]: kills a store in one of all ways, 200 times unless told otherwise, and looks each
// time whether what is left is right. What a test run does for a few rounds.
#include <cstdio>
#include <cstdlib>

#include "kv/crash_rounds.h"

namespace {

cortex::Death some_death(std::mt19937_64& random) {
  static constexpr std::array kFailpoints = {"open",         "half_header",     "half_payload", "before_rename",
                                             "after_rename", "before_dir_sync", "mid_evict",    "mid_index"};
  switch (random() % 3) {
    case 0:
      return {.failpoint = kFailpoints[random() % kFailpoints.size()], .hit = 1 + static_cast<int>(random() % 40)};
    case 1:
      return {.after = std::chrono::microseconds(random() % 60'000)};
    default:
      return {.after = std::chrono::microseconds(random() % 20'000),
              .grace = std::chrono::microseconds(random() % 10'000)};
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "kv_soak DIRECTORY [ROUNDS [SEED]]\n");
    return 64;
  }
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 200;
  std::mt19937_64 random(argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 1);
  cortex::CrashRounds crashes(argv[1]);
  int killed = 0;
  for (int round = 1; round <= rounds; ++round) {
    const cortex::Death death = some_death(random);
    try {
      killed += crashes.run(death);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "round %d (%s, %d): %s\n", round, death.failpoint.c_str(), death.hit, error.what());
      return 1;
    }
  }
  std::printf("%d rounds, killed in %d; %zu sequences seen written, %zu blocks read back\n", rounds, killed,
              crashes.confirmed(), crashes.blocks_read());
  return 0;
}

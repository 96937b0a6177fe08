// A store whose process is killed: at each failpoint, at any time, and while it writes what is pending.
#include <gtest/gtest.h>

#include "fakes/temporary_folder.h"
#include "kv/crash_rounds.h"

namespace cortex {
namespace {

TEST(DiskStoreCrash, AtEachFailpoint) {
  for (const char* failpoint : {"open", "half_header", "half_payload", "before_rename", "after_rename",
                                "before_dir_sync", "mid_evict", "mid_index"}) {
    const TemporaryFolder folder;
    CrashRounds rounds(folder.path() / "kv");
    rounds.run({.failpoint = "none"});  // until the quota is reached
    for (const int hit : {1, 2, 5}) {
      EXPECT_TRUE(rounds.run({.failpoint = failpoint, .hit = hit})) << failpoint << " " << hit;
    }
    EXPECT_GT(rounds.confirmed(), 30u);
    EXPECT_GT(rounds.blocks_read(), 100u);
  }
}

TEST(DiskStoreCrash, AtAnyTime) {
  const TemporaryFolder folder;
  CrashRounds rounds(folder.path() / "kv");
  std::mt19937_64 random(1);
  int killed = 0;
  for (int i = 0; i < 15; ++i) killed += rounds.run({.after = std::chrono::microseconds(random() % 40'000)});
  EXPECT_GT(killed, 5);
  EXPECT_GT(rounds.blocks_read(), 100u);
}

TEST(DiskStoreCrash, WhileItWritesWhatIsPending) {
  const TemporaryFolder folder;
  CrashRounds rounds(folder.path() / "kv");
  std::mt19937_64 random(2);
  for (int i = 0; i < 10; ++i) {
    rounds.run(
        {.after = std::chrono::microseconds(random() % 10'000), .grace = std::chrono::microseconds(random() % 5'000)});
  }
  EXPECT_GT(rounds.blocks_read(), 100u);
}

}  // namespace
}  // namespace cortex

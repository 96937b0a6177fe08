#include "guard/default_budget.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "fakes/temporary_folder.h"
#include "guard/memory_sensor.h"

namespace cortex {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

class DefaultBudgetTest : public testing::Test {
 protected:
  void write_machine(std::uint64_t total) {
    root_.write("proc/meminfo", fmt::format("MemTotal: {} kB\nMemAvailable: {} kB\n", total >> 10, total >> 10));
  }
  void write_cgroup(std::uint64_t limit) {
    root_.write("proc/self/cgroup", "0::/g\n");
    root_.write("sys/fs/cgroup/g/memory.max", fmt::format("{}\n", limit));
    root_.write("sys/fs/cgroup/g/memory.current", "0\n");
  }
  std::optional<std::uint64_t> budget(MemoryLimits limits = {}) { return default_memory_budget(root_.path(), limits); }

  TemporaryFolder root_;
};

TEST_F(DefaultBudgetTest, NothingIsKnownOfNothing) { EXPECT_FALSE(budget()); }

TEST_F(DefaultBudgetTest, IsWhatTheCeilingLeaves) {
  write_machine(64 * kGiB);
  EXPECT_EQ(budget(), (52 * kGiB - kGiB / 2) / 5 * 4);
  EXPECT_EQ(budget({.reserve_bytes = 32 * kGiB}), (32 * kGiB - kGiB / 2) / 5 * 4);
  write_cgroup(8 * kGiB);
  EXPECT_EQ(budget(), (8 * kGiB - kGiB / 2) / 5 * 4);
}

TEST_F(DefaultBudgetTest, ASmallContainerIsNotAllForTheFront) {
  write_machine(64 * kGiB);
  write_cgroup(400 * kMiB);
  EXPECT_EQ(budget(), 300 * kMiB / 5 * 4);
}

TEST_F(DefaultBudgetTest, MoreRoomIsNeverLessBudget) {
  std::uint64_t before = 0;
  for (std::uint64_t ceiling = 0; ceiling < 4 * kGiB; ceiling += 64 * kMiB) {
    EXPECT_GE(budget_for_ceiling(ceiling), before);
    before = budget_for_ceiling(ceiling);
    EXPECT_LE(before, ceiling);
    if (ceiling >= 2 * kGiB) {
      EXPECT_LE(ceiling_for_budget(before), ceiling);
    }
  }
}

TEST_F(DefaultBudgetTest, UsedToItsLastByteItIsNoPressure) {
  write_machine(64 * kGiB);
  for (const std::uint64_t limit : {300 * kMiB, 2 * kGiB, 16 * kGiB}) {
    write_cgroup(limit);
    EngineLoad load;
    load.resident_bytes = budget().value();
    EXPECT_LT(make_memory_sensor(root_.path(), {})->read(load, {})->pressure, 0.80);
  }
}

}  // namespace
}  // namespace cortex

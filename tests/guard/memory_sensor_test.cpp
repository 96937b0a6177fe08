#include "guard/memory_sensor.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "base/resident_memory.h"
#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

class MemorySensorTest : public testing::Test {
 protected:
  void write_machine(std::uint64_t total, std::uint64_t available) {
    root_.write("proc/meminfo", fmt::format("MemTotal:       {} kB\nMemFree:          12 kB\nMemAvailable:   {} kB\n",
                                            total >> 10, available >> 10));
  }
  void write_cgroup_2(const std::string& group, const std::string& max, const std::string& high, std::uint64_t current,
                      std::uint64_t inactive_file) {
    const std::string folder = "sys/fs/cgroup/" + group;
    root_.write(folder + "/memory.max", max + "\n");
    root_.write(folder + "/memory.high", high + "\n");
    root_.write(folder + "/memory.current", fmt::format("{}\n", current));
    root_.write(folder + "/memory.stat",
                fmt::format("anon 1\ninactive_file_other 7\ninactive_file {}\nactive_file 0\n", inactive_file));
  }

  std::optional<Reading> read(std::uint64_t resident, MemoryLimits limits = {}, std::uint64_t device = 0) {
    EngineLoad load;
    load.resident_bytes = resident;
    load.device_bytes = device;
    return make_memory_sensor(root_.path(), limits)->read(load, {});
  }

  TemporaryFolder root_;
};

TEST_F(MemorySensorTest, NothingIsKnownOfNothing) { EXPECT_FALSE(read(kGiB)); }

TEST_F(MemorySensorTest, TheCeilingIsRamLessTheReserve) {
  write_machine(64 * kGiB, 60 * kGiB);
  const auto reading = read(26 * kGiB);
  ASSERT_TRUE(reading);
  EXPECT_EQ(reading->ceiling_bytes, 52 * kGiB);
  EXPECT_EQ(reading->used_bytes, 26 * kGiB);
  EXPECT_DOUBLE_EQ(reading->pressure, 0.5);
  EXPECT_EQ(reading->source, "rss");
  EXPECT_EQ(read(kGiB, {.reserve_bytes = 4 * kGiB})->ceiling_bytes, 60 * kGiB);
  EXPECT_GE(read(kGiB, {.reserve_bytes = 100 * kGiB})->pressure, 0.98);
}

TEST_F(MemorySensorTest, TheDeviceCountsWhereItHoldsMore) {
  write_machine(64 * kGiB, 60 * kGiB);
  const auto reading = read(kGiB, {}, 39 * kGiB);
  EXPECT_DOUBLE_EQ(reading->pressure, 0.75);
  EXPECT_EQ(reading->source, "device");
}

TEST_F(MemorySensorTest, ABudgetThatIsUsedToItsLastByteIsNoPressure) {
  write_machine(64 * kGiB, 60 * kGiB);
  for (const std::uint64_t budget : {64 * kMiB, kGiB, 20 * kGiB}) {
    EXPECT_LT(read(budget, {.budget_bytes = budget})->pressure, 0.80);
    EXPECT_GE(read(2 * budget + kGiB, {.budget_bytes = budget})->pressure, 0.98);
  }
  EXPECT_EQ(read(kGiB, {.budget_bytes = ~std::uint64_t{0}})->ceiling_bytes, 52 * kGiB);
}

TEST_F(MemorySensorTest, AMachineThatOthersHaveFilledIsUnderPressure) {
  write_machine(64 * kGiB, 24 * kGiB);
  EXPECT_LT(read(kGiB)->pressure, 0.1);
  write_machine(64 * kGiB, 4 * kGiB);
  EXPECT_NEAR(read(kGiB)->pressure, 1 - 4.0 / 24, 1e-9);
  EXPECT_EQ(read(kGiB)->source, "meminfo");
  write_machine(64 * kGiB, 0);
  EXPECT_DOUBLE_EQ(read(kGiB)->pressure, 1.0);
}

TEST_F(MemorySensorTest, TheSmallestLimitUpTheTreeOfVersion2) {
  write_machine(64 * kGiB, 60 * kGiB);
  root_.write("proc/self/cgroup", "0::/outer/inner\n");
  write_cgroup_2("outer/inner", "max", "max", kGiB, 0);
  write_cgroup_2("outer", "8589934592", "max", 2 * kGiB, 0);
  EXPECT_EQ(read(kGiB)->ceiling_bytes, 8 * kGiB);
  write_cgroup_2("outer/inner", "max", "4294967296", kGiB, 0);
  EXPECT_EQ(read(kGiB)->ceiling_bytes, static_cast<std::uint64_t>(0.95 * 4.0 * kGiB));
  write_cgroup_2("outer/inner", "2147483648", "4294967296", kGiB, 0);
  EXPECT_EQ(read(kGiB)->ceiling_bytes, 2 * kGiB);
}

TEST_F(MemorySensorTest, OthersInTheGroupCountButFilesThatCanBeDroppedDoNot) {
  write_machine(64 * kGiB, 60 * kGiB);
  root_.write("proc/self/cgroup", "0::/g\n");
  write_cgroup_2("g", "8589934592", "max", 8 * kGiB, kGiB);
  const auto reading = read(kGiB);
  EXPECT_DOUBLE_EQ(reading->pressure, 7.0 / 8);
  EXPECT_EQ(reading->source, "cgroup");
  EXPECT_EQ(reading->used_bytes, kGiB);
  root_.write("sys/fs/cgroup/g/memory.stat", fmt::format("inactive_file {}\nactive_file {}\n", kGiB, 2 * kGiB));
  EXPECT_DOUBLE_EQ(read(kGiB)->pressure, 5.0 / 8);
}

TEST_F(MemorySensorTest, AFullGroupAroundThisOneCounts) {
  write_machine(64 * kGiB, 60 * kGiB);
  root_.write("proc/self/cgroup", "0::/outer/inner\n");
  write_cgroup_2("outer/inner", "2147483648", "max", 0, 0);
  write_cgroup_2("outer", "8589934592", "max", 8 * kGiB, 0);
  const auto reading = read(kMiB);
  EXPECT_DOUBLE_EQ(reading->pressure, 1.0);
  EXPECT_EQ(reading->ceiling_bytes, 2 * kGiB);
}

TEST_F(MemorySensorTest, Version1) {
  write_machine(64 * kGiB, 60 * kGiB);
  root_.write("proc/self/cgroup", "12:cpu,cpuacct:/g\n7:hugetlb,memory:/outer/g\n0::/elsewhere\n");
  root_.write("sys/fs/cgroup/memory/outer/g/memory.limit_in_bytes", "9223372036854771712\n");
  root_.write("sys/fs/cgroup/memory/outer/memory.limit_in_bytes", "4294967296\n");
  root_.write("sys/fs/cgroup/memory/outer/memory.usage_in_bytes", "4294967296\n");
  root_.write("sys/fs/cgroup/memory/outer/memory.stat", "inactive_file 5\ntotal_inactive_file 2147483648\n");
  const auto reading = read(kGiB);
  EXPECT_EQ(reading->ceiling_bytes, 4 * kGiB);
  EXPECT_DOUBLE_EQ(reading->pressure, 0.5);
  EXPECT_EQ(reading->source, "cgroup");
}

TEST_F(MemorySensorTest, AContainerSeesItsGroupAtTheMount) {
  write_machine(64 * kGiB, 60 * kGiB);
  write_cgroup_2("", "4294967296", "max", kGiB, 0);
  for (const char* path : {"0::/\n", "0::/kubepods/pod7/c3\n", "0::/../../else\n"}) {
    root_.write("proc/self/cgroup", path);
    EXPECT_EQ(read(kGiB)->ceiling_bytes, 4 * kGiB) << path;
  }
}

TEST_F(MemorySensorTest, GarbageIsNoLimit) {
  write_machine(64 * kGiB, 60 * kGiB);
  root_.write("proc/self/cgroup", "0::/g\n\n::\nno colon\n");
  for (const char* garbage : {"", "-1", "max", "0", "12 34", "1e9", "99999999999999999999999999", "\n\n"}) {
    write_cgroup_2("g", garbage, garbage, 0, 0);
    root_.write("sys/fs/cgroup/g/memory.current", garbage);
    root_.write("sys/fs/cgroup/g/memory.stat", garbage);
    root_.write("proc/pressure/memory", garbage);
    const auto reading = read(26 * kGiB);
    ASSERT_TRUE(reading);
    EXPECT_EQ(reading->ceiling_bytes, 52 * kGiB) << garbage;
    EXPECT_DOUBLE_EQ(reading->pressure, 0.5) << garbage;
  }
  for (const char* garbage :
       {"", "MemTotal:\n", "MemTotal: -5 kB\n", "MemTotal: 0 kB\n", "MemTotal", "MemTotal: 99999999999999999999 kB"}) {
    root_.write("proc/meminfo", garbage);
    EXPECT_FALSE(read(kGiB)) << garbage;
  }
}

TEST_F(MemorySensorTest, StandingStillForWantOfMemoryIsLevel3) {
  write_machine(64 * kGiB, 60 * kGiB);
  const auto stall = [&](const char* percent) {
    return fmt::format("some avg10=90.00 avg60=0 avg300=0 total=1\nfull avg10={} avg60=0.00 avg300=0.00 total=5\n",
                       percent);
  };
  root_.write("proc/pressure/memory", stall("10.50"));
  EXPECT_DOUBLE_EQ(read(kGiB)->pressure, 0.95);
  EXPECT_EQ(read(kGiB)->source, "psi");
  root_.write("proc/pressure/memory", stall("2.00"));
  EXPECT_LT(read(kGiB)->pressure, 0.80);
  // The group's own is nearer than the machine's.
  root_.write("proc/self/cgroup", "0::/g\n");
  root_.write("sys/fs/cgroup/g/memory.pressure", stall("99.00"));
  EXPECT_DOUBLE_EQ(read(kGiB)->pressure, 0.95);
}

TEST(MemorySensor, ReadsThisMachine) {
  EngineLoad load;
  load.resident_bytes = resident_bytes();
  const auto reading = make_memory_sensor("/", {})->read(load, {});
  ASSERT_TRUE(reading);
  EXPECT_GT(reading->ceiling_bytes, 64 * kMiB);
  EXPECT_GT(reading->pressure, 0.0);
}

TEST(MemoryLimits, TheReserveByTheSizeOfTheMachine) {
  EXPECT_EQ(default_reserve_bytes(128 * kGiB), 12 * kGiB);
  EXPECT_EQ(default_reserve_bytes(64 * kGiB - kGiB), 12 * kGiB);  // what a machine of 64 GiB shows
  EXPECT_EQ(default_reserve_bytes(48 * kGiB), 8 * kGiB);
  EXPECT_EQ(default_reserve_bytes(32 * kGiB), 8 * kGiB);
  EXPECT_EQ(default_reserve_bytes(24 * kGiB), 6 * kGiB);
  EXPECT_EQ(default_reserve_bytes(16 * kGiB), 4 * kGiB);  // a quarter
  EXPECT_EQ(default_reserve_bytes(8 * kGiB), 2 * kGiB);
  EXPECT_EQ(default_reserve_bytes(0), 0u);
}

}  // namespace
}  // namespace cortex

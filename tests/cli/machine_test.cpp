#include "cli/machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(Cpuinfo, OfX86) {
  const Processor processor = parse_cpuinfo(
      "processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz\nflags\t\t: fpu avx avx2 sse avx512_vnni\n\n"
      "processor\t: 1\nmodel name\t: Some CPU @ 2.0GHz\nflags\t\t: fpu avx avx2\n");
  EXPECT_EQ(processor.model, "Some CPU @ 2.0GHz");
  EXPECT_THAT(processor.instructions, ElementsAre("avx", "avx2", "avx512_vnni"));
}

TEST(Cpuinfo, OfArm) {
  EXPECT_THAT(parse_cpuinfo("processor : 0\nFeatures : fp asimd crc32 asimddp i8mm\n").instructions,
              ElementsAre("asimd", "asimddp", "i8mm"));
}

TEST(Cpuinfo, MayBeAbsent) {
  EXPECT_EQ(parse_cpuinfo("").model, "");
  EXPECT_THAT(parse_cpuinfo("nonsense\n: :\n").instructions, IsEmpty());
}

TEST(CpuMax, IsAShareOfTime) {
  EXPECT_DOUBLE_EQ(parse_cpu_max("150000 100000\n"), 1.5);
  for (const char* text : {"max 100000\n", "", "x", "100000", "100000 0", "-1 100000"}) {
    EXPECT_DOUBLE_EQ(parse_cpu_max(text), 0) << text;
  }
}

TEST(AvailableMemory, IsInBytes) {
  EXPECT_EQ(parse_available_memory("MemTotal:  10 kB\nMemAvailable:    2048 kB\n"), 2048u * 1024);
  EXPECT_EQ(parse_available_memory("MemTotal: 10 kB\n"), 0u);
  EXPECT_EQ(parse_available_memory("MemAvailable: x"), 0u);
}

TEST(Machine, IsThisOne) {
  const Machine machine = read_machine();
  EXPECT_GE(machine.usable_cores, 1);
  EXPECT_GT(machine.memory_bytes, 0u);
  EXPECT_GT(machine.open_files, 0u);
}

}  // namespace
}  // namespace cortex

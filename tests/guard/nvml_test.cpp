#include "guard/nvml.h"

#include <gtest/gtest.h>

namespace cortex {
namespace {

EngineLoad on_nvidia() {
  EngineLoad load;
  load.on_nvidia = true;
  return load;
}

TEST(Nvml, TheGpuThatIsWorstOffCounts) {
  const auto nvml = std::make_shared<Nvml>(CORTEX_FAKE_NVML);
  const auto gpus = nvml->read();
  ASSERT_EQ(gpus.size(), 2u);
  EXPECT_EQ(gpus[1].total_bytes, 1000u);
  EXPECT_EQ(gpus[1].used_bytes, 960u);
  const auto memory = make_gpu_memory_sensor(nvml)->read(on_nvidia(), {});
  ASSERT_TRUE(memory);
  EXPECT_DOUBLE_EQ(memory->pressure, 0.96);
  EXPECT_EQ(memory->source, "nvml");
  EXPECT_DOUBLE_EQ(make_gpu_heat_sensor(nvml)->read(on_nvidia(), {})->pressure, 0.90);
}

TEST(Nvml, AGpuThatNobodyComputesOnDoesNotMatter) {
  const auto nvml = std::make_shared<Nvml>(CORTEX_FAKE_NVML);
  EXPECT_FALSE(make_gpu_memory_sensor(nvml)->read({}, {}));
  EXPECT_FALSE(make_gpu_heat_sensor(nvml)->read({}, {}));
}

TEST(Nvml, WithoutTheLibraryOrWithAnotherThereIsNothing) {
  for (const char* library : {"libno-such-thing.so.1", "libdl.so.2"}) {
    const auto nvml = std::make_shared<Nvml>(library);
    EXPECT_TRUE(nvml->read().empty());
    EXPECT_FALSE(make_gpu_heat_sensor(nvml)->read(on_nvidia(), {}));
  }
}

TEST(Nvml, OnlyHeatAndAlarmsCount) {
  EXPECT_DOUBLE_EQ(gpu_heat_pressure(0x0), 0.0);
  EXPECT_DOUBLE_EQ(gpu_heat_pressure(0x1 | 0x4), 0.0);
  EXPECT_DOUBLE_EQ(gpu_heat_pressure(0x20), 0.90);
  EXPECT_DOUBLE_EQ(gpu_heat_pressure(0x40 | 0x20), 0.95);
  EXPECT_DOUBLE_EQ(gpu_heat_pressure(0x8), 0.95);
}

}  // namespace
}  // namespace cortex

#include "guard/injected_sensor.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

TEST(InjectedSensor, ReadsTheFileAnewEachTime) {
  TemporaryFolder folder;
  InjectedSensor sensor(folder.path() / "memory");
  EXPECT_FALSE(sensor.read({}, {}));
  folder.write("memory", "0.93\n");
  EXPECT_DOUBLE_EQ(sensor.read({}, {})->pressure, 0.93);
  EXPECT_EQ(sensor.read({}, {})->source, "injected");
  folder.write("new", "1");
  std::filesystem::rename(folder.path() / "new", folder.path() / "memory");
  EXPECT_DOUBLE_EQ(sensor.read({}, {})->pressure, 1.0);
  folder.remove("memory");
  EXPECT_FALSE(sensor.read({}, {}));
}

TEST(InjectedSensor, NothingElseIsAReading) {
  TemporaryFolder folder;
  InjectedSensor sensor(folder.path() / "memory");
  for (const char* garbage : {"", " ", "1.01", "-0.1", "nan", "inf", "0.5x", "0.5 0.6", "1e99"}) {
    folder.write("memory", garbage);
    EXPECT_FALSE(sensor.read({}, {})) << garbage;
  }
  EXPECT_FALSE(InjectedSensor(folder.path()).read({}, {}));
  ASSERT_EQ(::mkfifo((folder.path() / "pipe").c_str(), 0600), 0);
  EXPECT_FALSE(InjectedSensor(folder.path() / "pipe").read({}, {}));
}

}  // namespace
}  // namespace cortex

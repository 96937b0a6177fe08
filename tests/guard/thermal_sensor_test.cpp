#include "guard/thermal_sensor.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fakes/temporary_folder.h"
#include "guard/heat.h"

namespace cortex {
namespace {

class ThermalSensorTest : public testing::Test {
 protected:
  void write_zone(const std::string& number, const std::string& temperature, const std::string& critical) {
    const std::string folder = "sys/class/thermal/thermal_zone" + number;
    root_.write(folder + "/type", "zone " + number + "\n");
    root_.write(folder + "/temp", temperature + "\n");
    root_.write(folder + "/trip_point_0_type", "passive\n");
    root_.write(folder + "/trip_point_0_temp", "30000\n");
    root_.write(folder + "/trip_point_1_type", "critical\n");
    root_.write(folder + "/trip_point_1_temp", critical + "\n");
  }

  std::optional<Reading> read(std::optional<double> limit = {}) {
    return make_thermal_sensor(root_.path(), limit)->read({}, {});
  }

  TemporaryFolder root_;
};

TEST_F(ThermalSensorTest, NothingWithoutThermometers) { EXPECT_FALSE(read()); }

TEST_F(ThermalSensorTest, AZoneIsComparedWithItsOwnCriticalPoint) {
  write_zone("0", "92000", "100000");
  const auto reading = read();
  ASSERT_TRUE(reading);
  EXPECT_DOUBLE_EQ(reading->pressure, 0.90);
  EXPECT_EQ(reading->source, "zone 0");
}

TEST_F(ThermalSensorTest, TheOneNearestItsOwnLimitCounts) {
  write_zone("0", "80000", "120000");
  write_zone("1", "60000", "70000");
  EXPECT_EQ(read()->source, "zone 1");
}

TEST_F(ThermalSensorTest, ChipsByWhatIsCriticalElseTheirMaximum) {
  root_.write("sys/class/hwmon/hwmon0/name", "coretemp\n");
  root_.write("sys/class/hwmon/hwmon0/temp1_input", "85000\n");
  root_.write("sys/class/hwmon/hwmon0/temp1_label", "Package id 0\n");
  root_.write("sys/class/hwmon/hwmon0/temp1_max", "80000\n");
  root_.write("sys/class/hwmon/hwmon0/temp1_crit", "100000\n");
  root_.write("sys/class/hwmon/hwmon1/name", "nvme\n");
  root_.write("sys/class/hwmon/hwmon1/temp1_input", "40000\n");
  root_.write("sys/class/hwmon/hwmon1/temp1_max", "80000\n");
  EXPECT_DOUBLE_EQ(read()->pressure, 0.80);
  EXPECT_EQ(read()->source, "coretemp Package id 0");
  root_.write("sys/class/hwmon/hwmon1/temp1_input", "80000\n");
  EXPECT_DOUBLE_EQ(read()->pressure, 0.98);
  EXPECT_EQ(read()->source, "nvme");
}

TEST_F(ThermalSensorTest, ALimitIsWhatIsCriticalForAll) {
  write_zone("0", "62000", "100000");
  root_.write("sys/class/hwmon/hwmon0/temp1_input", "65000\n");  // it does not say what would be too much
  EXPECT_LT(read()->pressure, 0.80);
  EXPECT_DOUBLE_EQ(read(70.0)->pressure, heat_pressure(65, 70));
}

TEST_F(ThermalSensorTest, GarbageIsNoTemperature) {
  write_zone("0", "50000", "100000");
  const double calm = read()->pressure;
  write_zone("2", "99000", "garbage");
  EXPECT_DOUBLE_EQ(read()->pressure, calm);
  for (const char* garbage : {"", "-1", "-273000", "1000000000", "hot", "nan", "inf", "99 000", "0"}) {
    write_zone("1", garbage, "100000");
    EXPECT_DOUBLE_EQ(read()->pressure, calm) << garbage;
    write_zone("1", "99000", garbage);
    EXPECT_DOUBLE_EQ(read()->pressure, calm) << garbage;
  }
  write_zone("1", "99000", "100000");
  EXPECT_GT(read()->pressure, 0.95);
}

TEST_F(ThermalSensorTest, AThermometerMayGo) {
  write_zone("0", "50000", "100000");
  write_zone("1", "90000", "100000");
  const auto sensor = make_thermal_sensor(root_.path(), {});
  EXPECT_EQ(sensor->read({}, {})->source, "zone 1");
  root_.remove("sys/class/thermal/thermal_zone1");
  EXPECT_EQ(sensor->read({}, {})->source, "zone 0");
  root_.remove("sys");
  EXPECT_FALSE(sensor->read({}, {}));
}

TEST(Heat, LevelsByTheDistanceToWhatIsCritical) {
  EXPECT_DOUBLE_EQ(heat_pressure(85, 100), 0.80);
  EXPECT_DOUBLE_EQ(heat_pressure(92, 100), 0.90);
  EXPECT_DOUBLE_EQ(heat_pressure(97, 100), 0.95);
  EXPECT_DOUBLE_EQ(heat_pressure(100, 100), 0.98);
  EXPECT_DOUBLE_EQ(heat_pressure(200, 100), 1.0);
  EXPECT_DOUBLE_EQ(heat_pressure(-100, 100), 0.0);
  double before = 0.0;
  for (double celsius = -10; celsius < 130; celsius += 0.25) {
    EXPECT_GE(heat_pressure(celsius, 100), before);
    before = heat_pressure(celsius, 100);
  }
  EXPECT_EQ(name_of_heat(0.79), "nominal");
  EXPECT_EQ(name_of_heat(0.80), "fair");
  EXPECT_EQ(name_of_heat(0.90), "serious");
  EXPECT_EQ(name_of_heat(0.99), "critical");
}

}  // namespace
}  // namespace cortex

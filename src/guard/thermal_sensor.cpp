#include "guard/thermal_sensor.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "guard/heat.h"
#include "guard/small_file.h"

namespace cortex {
namespace {

using Path = std::filesystem::path;

// What a part of a computer can have; what is critical for it.
constexpr double kMostCelsius = 150.0;
constexpr double kLeastCriticalCelsius = 40.0;

struct Temperature {
  std::string name;
  double celsius = 0.0;
  std::optional<double> critical_celsius;
};

// The names in a directory that begin so; none when it can't be read.
std::vector<std::string> names_in(const Path& directory, std::string_view begin) {
  std::vector<std::string> names;
  std::error_code error;
  for (auto entry = std::filesystem::directory_iterator(directory, error);
       !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    std::string name = entry->path().filename().string();
    if (name.starts_with(begin)) names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string line_of(const Path& path) {
  const std::string text = read_small_file(path).value_or("");
  return text.substr(0, text.find('\n'));
}

// The files hold thousandths of a degree.
std::optional<double> celsius_of(const Path& path, double least) {
  const auto thousandths = parse_real(read_small_file(path).value_or(""));
  if (!thousandths) return {};
  const double celsius = *thousandths / 1000.0;
  return celsius > least && celsius <= kMostCelsius ? std::optional(celsius) : std::nullopt;
}

std::optional<double> critical_trip(const Path& zone) {
  constexpr std::string_view kEnd = "_type";
  for (const auto& name : names_in(zone, "trip_point_")) {
    if (!name.ends_with(kEnd) || line_of(zone / name) != "critical") continue;
    const std::string point = name.substr(0, name.size() - kEnd.size());
    if (const auto celsius = celsius_of(zone / (point + "_temp"), kLeastCriticalCelsius)) return celsius;
  }
  return {};
}

void read_zones(const Path& root, std::vector<Temperature>* found) {
  const Path zones = root / "sys/class/thermal";
  for (const auto& name : names_in(zones, "thermal_zone")) {
    const auto celsius = celsius_of(zones / name / "temp", 0.0);
    if (celsius) found->push_back({line_of(zones / name / "type"), *celsius, critical_trip(zones / name)});
  }
}

void read_hwmon(const Path& root, std::vector<Temperature>* found) {
  constexpr std::string_view kEnd = "_input";
  const Path chips = root / "sys/class/hwmon";
  for (const auto& chip : names_in(chips, "hwmon")) {
    for (const auto& name : names_in(chips / chip, "temp")) {
      if (!name.ends_with(kEnd)) continue;
      const auto celsius = celsius_of(chips / chip / name, 0.0);
      if (!celsius) continue;
      const std::string input = name.substr(0, name.size() - kEnd.size());
      auto critical = celsius_of(chips / chip / (input + "_crit"), kLeastCriticalCelsius);
      if (!critical) critical = celsius_of(chips / chip / (input + "_max"), kLeastCriticalCelsius);
      const std::string label = line_of(chips / chip / (input + "_label"));
      found->push_back({line_of(chips / chip / "name") + (label.empty() ? "" : " " + label), *celsius, critical});
    }
  }
}

class ThermalSensor : public Sensor {
 public:
  ThermalSensor(Path root, std::optional<double> limit_celsius)
      : root_(std::move(root)), limit_celsius_(limit_celsius) {}

  std::optional<Reading> read(const EngineLoad& /*load*/, TimePoint /*now*/) override {
    std::vector<Temperature> temperatures;
    read_zones(root_, &temperatures);
    read_hwmon(root_, &temperatures);
    std::optional<Reading> hottest;
    for (Temperature& temperature : temperatures) {
      const auto critical = limit_celsius_ ? limit_celsius_ : temperature.critical_celsius;
      if (!critical) continue;
      const double pressure = heat_pressure(temperature.celsius, *critical);
      if (hottest && pressure <= hottest->pressure) continue;
      hottest = Reading{};
      hottest->pressure = pressure;
      hottest->source = temperature.name.empty() ? "unnamed sensor" : std::move(temperature.name);
    }
    return hottest;
  }

 private:
  const Path root_;
  const std::optional<double> limit_celsius_;
};

}  // namespace

std::unique_ptr<Sensor> make_thermal_sensor(Path root, std::optional<double> limit_celsius) {
  return std::make_unique<ThermalSensor>(std::move(root), limit_celsius);
}

}  // namespace cortex

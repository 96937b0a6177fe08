// The backends that the same tests run on, and how near their numbers must come.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace cortex {

// "cpu_exact" is cpu with float32 products; "cpu" rounds activations to 8 bits or to bfloat16, and keys and values.
inline std::vector<std::string> tested_backends() {
#ifdef CORTEX_TEST_MLX_MODULE
  return {"cpu", "cpu_exact", "mlx"};
#else
  return {"cpu", "cpu_exact"};
#endif
}

// Those whose products are of float32.
inline std::vector<std::string> exact_backends() {
  std::vector<std::string> names = tested_backends();
  std::erase(names, "cpu");
  return names;
}

inline std::unique_ptr<Backend> open_tested(const std::string& name, int threads = 2) {
#ifdef CORTEX_TEST_MLX_MODULE
  setenv("CORTEX_MLX_MODULE", CORTEX_TEST_MLX_MODULE, 1);
#endif
  const bool exact = name == "cpu_exact";
  return open_backend(exact ? "cpu" : name, {.threads = threads, .exact = exact});
}

// Of "cpu": what may differ, relative to the root mean square of what is expected. Codes of 8 bits round by 1/254 of a
// group's largest value, bfloat16 by 1/512, and layers add up.
inline constexpr double kRoundedError = 0.05;

// The root mean square of the differences relative to that of what is expected; infinite where sizes differ or a value
// is not finite.
inline double relative_difference(const std::vector<float>& got, const std::vector<float>& expected) {
  if (got.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double differences = 0.0, squares = 0.0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!std::isfinite(got[i])) return std::numeric_limits<double>::infinity();
    differences += std::pow(static_cast<double>(got[i]) - expected[i], 2);
    squares += std::pow(static_cast<double>(expected[i]), 2);
  }
  return std::sqrt(differences / squares);
}

// The largest difference; infinite where sizes differ or a value is not finite.
inline double worst_difference(const std::vector<float>& got, const std::vector<float>& expected) {
  if (got.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double worst = 0.0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!std::isfinite(got[i])) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, std::abs(static_cast<double>(got[i]) - expected[i]));
  }
  return worst;
}

// Two ways to the same result: the same bits on the CPU, within `tolerance` where a library chooses kernels by shape.
inline void expect_same(const std::string& backend, const std::vector<float>& got, const std::vector<float>& expected,
                        double tolerance, const std::string& what) {
  EXPECT_LE(worst_difference(got, expected), backend == "mlx" ? tolerance : 0.0) << what;
}

// Within `tolerance` where every product is of float32, else within kRoundedError.
inline void expect_near_on(const std::string& backend, const std::vector<float>& got,
                           const std::vector<float>& expected, double tolerance, const std::string& what) {
  if (backend == "cpu") {
    EXPECT_LE(relative_difference(got, expected), kRoundedError) << what;
  } else {
    EXPECT_LE(worst_difference(got, expected), tolerance) << what;
  }
}

inline void expect_near(const std::vector<float>& got, const std::vector<float>& expected, double tolerance,
                        const std::string& what) {
  EXPECT_LE(worst_difference(got, expected), tolerance) << what;
}

}  // namespace cortex

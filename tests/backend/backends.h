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

inline std::vector<std::string> tested_backends() {
#ifdef CORTEX_TEST_MLX_MODULE
  return {"cpu", "mlx"};
#else
  return {"cpu"};
#endif
}

inline std::unique_ptr<Backend> open_tested(const std::string& name, int threads = 2) {
#ifdef CORTEX_TEST_MLX_MODULE
  setenv("CORTEX_MLX_MODULE", CORTEX_TEST_MLX_MODULE, 1);
#endif
  return open_backend(name, {.threads = threads});
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
  EXPECT_LE(worst_difference(got, expected), backend == "cpu" ? 0.0 : tolerance) << what;
}

inline void expect_near(const std::vector<float>& got, const std::vector<float>& expected, double tolerance,
                        const std::string& what) {
  EXPECT_LE(worst_difference(got, expected), tolerance) << what;
}

}  // namespace cortex

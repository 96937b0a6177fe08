// The backends that the same tests run on, and how near their numbers must come.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
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

// Two ways to the same result: the same bits on the CPU, within `tolerance` where a library chooses kernels by shape.
inline void expect_same(const std::string& backend, const std::vector<float>& got, const std::vector<float>& expected,
                        double tolerance, const std::string& what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  double worst = 0.0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(std::isfinite(got[i])) << what << " at " << i;
    worst = std::max(worst, std::abs(static_cast<double>(got[i]) - expected[i]));
  }
  EXPECT_LE(worst, backend == "cpu" ? 0.0 : tolerance) << what;
}

inline void expect_near(const std::vector<float>& got, const std::vector<float>& expected, double tolerance,
                        const std::string& what) {
  expect_same("within tolerance", got, expected, tolerance, what);
}

}  // namespace cortex

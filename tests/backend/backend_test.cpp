#include "backend/backend.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "backend/backends.h"
#include "base/error.h"

namespace cortex {
namespace {

class BackendTest : public testing::Test {
 protected:
  void TearDown() override { unsetenv("CORTEX_MLX_MODULE"); }

  static void expect_error(ErrorCode code, const std::string& text, const std::function<void()>& action) {
    try {
      action();
      FAIL() << "nothing thrown";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code);
      EXPECT_NE(error.message().find(text), std::string::npos) << error.message();
    }
  }
};

TEST_F(BackendTest, CpuIsAlwaysThere) {
  const auto backend = open_backend("cpu", {.threads = 1});
  EXPECT_EQ(backend->name(), "cpu");
  EXPECT_EQ(backend->device(), "cpu");
}

TEST_F(BackendTest, UnknownNamesAreRefused) {
  expect_error(ErrorCode::invalid_option, "\"tpu\"; one of auto, cpu, mlx", [] { open_backend("tpu", {}); });
  expect_error(ErrorCode::invalid_option, "threads: -1", [] { open_backend("cpu", {.threads = -1}); });
}

TEST_F(BackendTest, MissingModuleIsSaid) {
  setenv("CORTEX_MLX_MODULE", "/nowhere/module.so", 1);
  expect_error(ErrorCode::invalid_option, "/nowhere/module.so", [] { open_backend("mlx", {}); });
  EXPECT_EQ(open_backend("auto", {.threads = 1})->name(), "cpu");
  unsetenv("CORTEX_MLX_MODULE");  // none lies beside this test
  expect_error(ErrorCode::invalid_option, "libcortex_mlx.so", [] { open_backend("mlx", {}); });
}

TEST_F(BackendTest, FilesThatAreNoModulesAreSaid) {
  const auto path = std::filesystem::temp_directory_path() / ("cortex_module_" + std::to_string(getpid()) + ".so");
  std::ofstream(path) << "not a library";
  setenv("CORTEX_MLX_MODULE", path.c_str(), 1);
  expect_error(ErrorCode::invalid_option, path.string(), [] { open_backend("mlx", {}); });
  EXPECT_EQ(open_backend("auto", {.threads = 1})->name(), "cpu");
  std::filesystem::remove(path);
}

TEST_F(BackendTest, ErrorsCrossTheModule) {
  setenv("CORTEX_MLX_MODULE", CORTEX_TEST_THROWING_MODULE, 1);
  expect_error(ErrorCode::memory_pressure, "no device today", [] { open_backend("mlx", {}); });
  EXPECT_THROW(open_backend("mlx", {.threads = 7}), CheckFailure);
  EXPECT_EQ(open_backend("auto", {.threads = 1})->name(), "cpu");
}

#ifdef CORTEX_TEST_MLX_MODULE
TEST_F(BackendTest, MlxIsPreferredWhereItHasAGpu) {
  setenv("CORTEX_MLX_MODULE", CORTEX_TEST_MLX_MODULE, 1);
  const auto mlx = open_backend("mlx", {});
  EXPECT_EQ(mlx->name(), "mlx");
  EXPECT_EQ(open_backend("auto", {})->name(), mlx->device() == "cpu" ? "cpu" : "mlx");
}
#endif

}  // namespace
}  // namespace cortex

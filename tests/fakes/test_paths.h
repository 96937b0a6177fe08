// Where tests find their data: the tree's own, and the default models, which script/test fetches.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace cortex {

// A file or folder of tests/data, such as "models/llama". Throws when it is not there.
inline std::filesystem::path test_data(const std::string& name) {
  const auto path = std::filesystem::path(CORTEX_TEST_DATA) / name;
  if (!std::filesystem::exists(path)) throw std::runtime_error(path.string() + ": no such test data");
  return path;
}

// A file or folder of $CORTEX_MODELS_DIR, by default $HOME/.cache/cortex/models. Throws, which fails the test, when it
// is not there.
inline std::filesystem::path default_model(const std::string& name) {
  const char* chosen = std::getenv("CORTEX_MODELS_DIR");
  const char* home = std::getenv("HOME");
  const auto folder =
      chosen ? std::filesystem::path(chosen) : std::filesystem::path(home ? home : "/") / ".cache/cortex/models";
  if (!std::filesystem::exists(folder / name)) {
    throw std::runtime_error((folder / name).string() + ": no such model; script/test fetches it");
  }
  return folder / name;
}

}  // namespace cortex

// A copy of one of tests/data/models that a test may spoil; gone when the test ends.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

#include "fakes/temporary_folder.h"
#include "fakes/test_paths.h"
#include "model/model.h"

namespace cortex {

class TemporaryModel : public TemporaryFolder {
 public:
  explicit TemporaryModel(const std::string& name) {
    std::filesystem::copy(test_data("models/" + name), path(),
                          std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing);
  }
  // Replaces the first occurrence, which must exist.
  void replace(const std::string& file, const std::string& from, const std::string& to) const {
    std::string bytes = read(file);
    const auto at = bytes.find(from);
    if (at == std::string::npos) throw std::runtime_error(file + " does not hold " + from);
    write(file, bytes.replace(at, from.size(), to));
  }
  Model open() const { return open_model(real_file_system(), path()); }
};

}  // namespace cortex

// A copy of one of tests/data/models that a test may spoil; gone when the test ends.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

#include "fakes/test_paths.h"
#include "model/model.h"

namespace cortex {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "cortex-model-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }

  const std::filesystem::path& path() const { return path_; }
  void write(const std::filesystem::path& name, const std::string& bytes) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << bytes;
  }
  std::string read(const std::filesystem::path& name) const {
    std::ostringstream bytes;
    bytes << std::ifstream(path_ / name, std::ios::binary).rdbuf();
    return bytes.str();
  }
  void remove(const std::filesystem::path& name) const { std::filesystem::remove_all(path_ / name); }

 private:
  std::filesystem::path path_;
};

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

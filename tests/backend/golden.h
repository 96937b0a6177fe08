// The tensors of a golden.safetensors: what transformers computed for the same weights and ids.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "model/safetensors.h"

namespace cortex {

class Golden {
 public:
  explicit Golden(const std::filesystem::path& path) {
    for (TensorView& tensor : read_safetensors(real_file_system().open(path))) tensors_[tensor.name] = tensor;
  }

  bool has(const std::string& name) const { return tensors_.contains(name); }

  std::vector<std::int32_t> ids(const std::string& name) const {
    const TensorView& view = tensor(name);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(view.elements()));
    view.file->read(view.offset, std::as_writable_bytes(std::span(ids)));
    return ids;
  }

  // Row-major.
  std::vector<float> floats(const std::string& name) const {
    const TensorView& view = tensor(name);
    std::vector<float> values(static_cast<std::size_t>(view.elements()));
    read_rows(view, 0, view.rows(), values);
    return values;
  }

 private:
  const TensorView& tensor(const std::string& name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) throw std::out_of_range("no golden tensor " + name);
    return found->second;
  }

  std::map<std::string, TensorView> tensors_;
};

// A model with its golden outputs under tests/data/models.
inline std::filesystem::path golden_model(const std::string& name) {
  return std::filesystem::path(CORTEX_TEST_DATA) / "models" / name;
}

}  // namespace cortex

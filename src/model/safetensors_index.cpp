#include "model/safetensors_index.h"

#include <fmt/core.h>

#include <map>
#include <set>
#include <utility>

#include "base/error.h"
#include "model/json_file.h"
#include "model/safetensors.h"

namespace cortex {
namespace {

using NamesByFile = std::map<std::string, std::set<std::string>>;

NamesByFile read_weight_map(const ModelFolder& folder, const Fields& weight_map) {
  NamesByFile names_by_file;
  for (const auto& [name, unused] : weight_map.entries()) {
    const std::string& file = weight_map.text(name);
    if (file.empty() || file == "." || file == ".." || file.find('/') != std::string::npos) {
      weight_map.fail(name, quote(file) + " is not the name of a file beside the index", ErrorCode::invalid_path);
    }
    if (!folder.has(file)) weight_map.fail(name, quote(file) + " is missing");
    names_by_file[file].insert(name);
  }
  return names_by_file;
}

// A tensor of a file that the index places elsewhere or nowhere.
[[noreturn]] void refuse_unnamed(const Fields& weight_map, const TensorView& tensor, const std::string& file) {
  const std::string* elsewhere = weight_map.find_text(tensor.name);
  throw Error(ErrorCode::invalid_weights,
              fmt::format("{}: tensor {} {}", file, quote(tensor.name),
                          elsewhere ? fmt::format("stands in {} too, says {}", quote(*elsewhere), kSafetensorsIndexFile)
                                    : fmt::format("is not in the weight_map of {}", kSafetensorsIndexFile)));
}

}  // namespace

std::vector<TensorView> read_indexed_safetensors(const ModelFolder& folder, const std::string& text) {
  const Fields index = parse_json_object(text, kSafetensorsIndexFile, ErrorCode::invalid_weights);
  const Fields* weight_map = index.find_object("weight_map");
  if (!weight_map) index.fail("weight_map", "is missing");
  std::vector<TensorView> tensors;
  for (auto& [file, names] : read_weight_map(folder, *weight_map)) {
    std::set<std::string> missing = names;
    for (TensorView& tensor : read_safetensors(folder.open(file), file)) {
      if (missing.erase(tensor.name) == 0) refuse_unnamed(*weight_map, tensor, file);
      tensors.push_back(std::move(tensor));
    }
    if (!missing.empty()) weight_map->fail(*missing.begin(), quote(file) + " does not hold this tensor");
  }
  return tensors;
}

}  // namespace cortex

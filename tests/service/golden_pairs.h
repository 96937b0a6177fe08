// The golden pairs of a reranker under tests/data/models, with what transformers computed for them.
#pragma once

#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "backend/golden.h"
#include "base/error.h"
#include "model/fields.h"
#include "model/json_file.h"

namespace cortex {

struct GoldenPairs {
  explicit GoldenPairs(const std::string& model) : golden_(golden_model(model) / "golden.safetensors") {
    const auto file = golden_model(model) / "pairs.json";
    const Value root = parse_json(read_whole(file), "pairs.json", ErrorCode::invalid_config);
    for (const Value& entry : *root.as<Value::Array>()) {
      const auto& pair = *entry.as<Value::Array>();
      pairs.emplace_back(*pair.at(0).as<std::string>(), *pair.at(1).as<std::string>());
    }
  }

  std::vector<std::int32_t> ids(std::size_t k) const { return golden_.ids("ids_" + std::to_string(k)); }
  std::vector<std::int32_t> types(std::size_t k) const { return golden_.ids("types_" + std::to_string(k)); }
  float score(std::size_t k) const { return golden_.floats("score_" + std::to_string(k)).at(0); }

  std::vector<std::pair<std::string, std::string>> pairs;  // query, document

 private:
  static std::string read_whole(const std::filesystem::path& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
  }

  Golden golden_;
};

}  // namespace cortex

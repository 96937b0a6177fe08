// What the tests of text/ read from model files: golden ids, and the vocabulary of a GGUF file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_system.h"
#include "fakes/test_paths.h"
#include "model/gguf.h"
#include "model/safetensors.h"
#include "text/tokenizer.h"

namespace cortex {

// NAME_0, NAME_1, ... of a golden.safetensors in tests/data; empty when there are none.
inline std::vector<std::vector<std::int32_t>> golden_rows(const std::string& file, std::string_view name) {
  std::vector<std::vector<std::int32_t>> rows;
  for (const TensorView& view : read_safetensors(real_file_system().open(test_data(file)))) {
    if (view.name.size() != name.size() + 2 || !view.name.starts_with(name) || view.name[name.size()] != '_') continue;
    const auto row = static_cast<std::size_t>(view.name.back() - '0');
    if (rows.size() <= row) rows.resize(row + 1);
    rows[row].resize(static_cast<std::size_t>(view.elements()));
    view.file->read(view.offset, std::as_writable_bytes(std::span(rows[row])));
  }
  return rows;
}

// Of a file that may have no more than its vocabulary.
inline Vocabulary read_vocabulary(const std::filesystem::path& path) {
  const Fields metadata = read_gguf(real_file_system().open(path)).metadata;
  const auto last = (1 << 30) - 1;
  Vocabulary vocabulary;
  vocabulary.model = metadata.text("tokenizer.ggml.model");
  vocabulary.pre = metadata.text("tokenizer.ggml.pre");
  for (const Value& token : metadata.array("tokenizer.ggml.tokens")) {
    vocabulary.tokens.push_back(*token.as<std::string>());
  }
  for (const Value& type : metadata.array("tokenizer.ggml.token_type")) {
    vocabulary.token_types.push_back(static_cast<std::int32_t>(*type.as<std::int64_t>()));
  }
  if (const auto* merges = metadata.find_array("tokenizer.ggml.merges")) {
    for (const Value& merge : *merges) vocabulary.merges.push_back(*merge.as<std::string>());
  }
  if (const auto* scores = metadata.find_array("tokenizer.ggml.scores")) {
    for (const Value& score : *scores) vocabulary.scores.push_back(static_cast<float>(*score.as<double>()));
  }
  vocabulary.bos = metadata.find_integer("tokenizer.ggml.bos_token_id", 0, last);
  vocabulary.eos = metadata.find_integer("tokenizer.ggml.eos_token_id", 0, last);
  vocabulary.add_bos = metadata.find_boolean("tokenizer.ggml.add_bos_token").value_or(false);
  vocabulary.add_eos = metadata.find_boolean("tokenizer.ggml.add_eos_token").value_or(false);
  vocabulary.add_space_prefix = metadata.find_boolean("tokenizer.ggml.add_space_prefix").value_or(true);
  return vocabulary;
}

// "gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2": script/fetch-test-models fetches them.
inline std::filesystem::path ggml_vocabulary(const std::string& name, const std::string& ending = "") {
  return default_model("ggml-vocabularies/ggml-vocab-" + name + ".gguf" + ending);
}

}  // namespace cortex

// The tokenizers and templates that the tests of text/ share.
#pragma once

#include <cstdint>
#include <filesystem>
#include <iterator>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "base/file_system.h"
#include "fakes/test_paths.h"
#include "text/tokenizer.h"

namespace cortex {

inline std::string read_data(const std::string& name) {
  return real_file_system().read_text(test_data(name), 64 << 20);
}

inline Tokenizer tokenizer_of(const std::string& name) { return Tokenizer::from_json(read_data(name)); }

// Byte-level BPE with <|endoftext|>, <|im_start|> and <|im_end|>.
inline std::shared_ptr<const Tokenizer> llama_tokenizer() {
  return std::make_shared<const Tokenizer>(tokenizer_of("models/llama/tokenizer.json"));
}

// One row of numbers per line.
inline std::vector<std::vector<std::int32_t>> rows_of_ids(const std::string& text) {
  std::istringstream lines(text);
  std::vector<std::vector<std::int32_t>> rows;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream numbers(line);
    rows.emplace_back(std::istream_iterator<std::int32_t>(numbers), std::istream_iterator<std::int32_t>());
  }
  return rows;
}

inline std::vector<std::vector<std::int32_t>> read_rows_of_ids(const std::string& name) {
  return rows_of_ids(read_data(name));
}

// What the tiny models' golden ids were made of.
inline std::vector<std::string> golden_prompts() {
  const std::string code = "def add(a, b): return a + b  # 1 + 2 = 3\n";
  const std::string mixed =
      "Größe, 東京タワー 🙂 Привет. When memory runs short, idle blocks leave first; when heat rises, the batch "
      "shrinks. ";
  return {"The scheduler hands each sequence", "Paris", code + code + code, mixed + mixed};
}

inline std::vector<std::pair<std::string, std::string>> golden_pairs() {
  const std::string idle = "When memory runs short, idle blocks leave first; ";
  return {{"capital of France?", "Paris is the capital of France."},
          {"capital of France?", "When heat rises, the batch shrinks."},
          {"a", "b"},
          {"memory", idle + idle + idle + idle}};
}

// A tokenizer.json with this model, added tokens and decoder; each JSON.
inline std::string tokenizer_json(const std::string& model, const std::string& added_tokens = "[]",
                                  const std::string& decoder = "null", const std::string& pre_tokenizer = "null",
                                  const std::string& post_processor = "null", const std::string& normalizer = "null") {
  return R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":)" + added_tokens + R"(,"normalizer":)" +
         normalizer + R"(,"pre_tokenizer":)" + pre_tokenizer + R"(,"post_processor":)" + post_processor +
         R"(,"decoder":)" + decoder + R"(,"model":)" + model + "}";
}

inline std::string added_token(int id, const std::string& content, bool special = true, bool normalized = false) {
  return R"({"id":)" + std::to_string(id) + R"(,"content":")" + content +
         R"(","single_word":false,"lstrip":false,"rstrip":false,"normalized":)" + (normalized ? "true" : "false") +
         R"(,"special":)" + (special ? "true}" : "false}");
}

}  // namespace cortex

// Text to token ids and what each id means as bytes. Immutable and cheap to copy (copies share one vocabulary); any
// thread, several at once. Texts are UTF-8: Error invalid_utf8 otherwise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct cortex_tokenizer;  // rust/text

namespace cortex {

// The vocabulary that a GGUF file carries. Supported: model "gpt2", byte-level BPE, with pre "default", "gpt-2",
// "smollm", "llama-bpe", "llama3", "llama-v3", "qwen2" or "deepseek-r1-qwen"; and model "llama", SentencePiece's BPE,
// for which a space and U+2581 are the same.
struct Vocabulary {
  std::string model;
  std::string pre;
  std::vector<std::string> tokens;
  std::vector<std::int32_t> token_types;  // 3 control: special; 4 user-defined: always one token, but plain text
  std::vector<std::string> merges;        // of "gpt2": "left right", best first
  std::vector<float> scores;              // of "llama": [tokens]; the best is joined first
  std::optional<std::int32_t> bos, eos, unknown, padding;
  bool add_bos = false;
  bool add_eos = false;
  bool add_space_prefix = true;    // of "llama": a text, and what follows a special token, begins with a space
  bool marks_take_blanks = false;  // the blanks behind a special or user-defined token are a part of it: Phi-3's
};

struct EncodeOptions {
  bool add_special_tokens = true;  // what the tokenizer puts around a text: [CLS] ... [SEP], or a BOS
  bool parse_special = false;      // false: the text of a special token is text like any other
};

// Two texts as one input, as cross-encoders take them. ids and types have one entry per token.
struct EncodedPair {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> types;  // 0 or 1, as the model's post-processor gives them
};

// The bytes of id i are bytes[offsets[i]] to bytes[offsets[i + 1]]. Lives as long as its tokenizer.
struct TokenTable {
  std::span<const std::uint32_t> offsets;  // [vocabulary_size + 1]
  std::string_view bytes;
};

class Tokenizer {
 public:
  // The text of a tokenizer.json. Its truncation and padding are switched off. Throws Error invalid_tokenizer.
  static Tokenizer from_json(std::string_view json);
  // Throws Error invalid_tokenizer.
  static Tokenizer from_vocabulary(const Vocabulary& vocabulary);

  std::vector<std::int32_t> encode(std::string_view text, const EncodeOptions& options = {}) const;
  EncodedPair encode_pair(std::string_view first, std::string_view second, const EncodeOptions& options = {}) const;

  // The text of the ids as Detokenizer gives it.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special) const;

  // Ids are below it; a model may have more rows than that.
  int vocabulary_size() const;
  // By the token's name in the vocabulary, such as "<|im_end|>" or "Ġthe".
  std::optional<std::int32_t> token_id(std::string_view token) const;
  // What this id adds to a text: maybe a part of a character; nothing for ids outside the vocabulary.
  std::string_view token_bytes(std::int32_t id) const;
  bool is_special(std::int32_t id) const;
  TokenTable token_table() const;
  // The first space of a text stands for its beginning and is no part of it.
  bool drops_first_space() const;

 private:
  explicit Tokenizer(cortex_tokenizer* tokenizer);
  friend class ChatEncoder;
  bool knows(std::int32_t id) const;

  std::shared_ptr<const cortex_tokenizer> tokenizer_;
  TokenTable table_;
  std::span<const std::uint8_t> special_;  // [vocabulary_size]
  bool drops_first_space_ = false;
};

}  // namespace cortex

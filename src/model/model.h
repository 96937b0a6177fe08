// A model on disk, opened: its spec, where its weights are, what its tokenizer and chat template are made of. Opening
// reads headers and small files only, so the front (text) and the worker (weights) both do it. Immutable; any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/file_system.h"
#include "model/model_kind.h"
#include "model/spec.h"

namespace cortex {

// The tokenizer that a GGUF file carries in its metadata.
struct GgufVocabulary {
  std::string model;  // tokenizer.ggml.model: "gpt2" is byte-level BPE, "llama" SentencePiece's
  std::string pre;    // tokenizer.ggml.pre: "smollm", ...
  std::vector<std::string> tokens;
  std::vector<std::int32_t> token_types;  // 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
  std::vector<std::string> merges;        // "left right", best first
  std::vector<float> scores;              // [tokens], or empty; SentencePiece's
  std::optional<std::int32_t> bos, eos, unknown, padding;
  bool add_bos = false;
  bool add_eos = false;
  bool add_space_prefix = true;    // SentencePiece's
  bool marks_take_blanks = false;  // the blanks behind a special token are a part of it
};

// The text of tokenizer.json, as it is.
struct TokenizerJson {
  std::string text;
};

// How a model's makers want it to be sampled; an absent value leaves the choice to whoever comes next.
struct GenerationDefaults {
  std::optional<float> temperature, top_p, min_p, repetition_penalty;
  std::optional<int> top_k;       // 0 is off
  std::optional<bool> do_sample;  // false: the model's makers mean greedy
};

// How an embedder is used, as the files of sentence-transformers say.
struct EmbeddingUse {
  Pooling pooling = Pooling::mean;
  bool normalise = false;                      // its own pipeline ends in a normalisation
  std::map<std::string, std::string> prompts;  // by name: what goes before a text
  std::optional<std::string> default_prompt;   // a name in `prompts`
};

// The ids by which a decoder answers whether a document fits its query: the score is logit(yes) - logit(no).
struct AnswerIds {
  std::int32_t yes = 0;
  std::int32_t no = 0;
};

struct DecoderModel {
  DecoderSpec spec;
  DecoderWeights weights;
};
struct EncoderModel {
  EncoderSpec spec;
  EncoderWeights weights;
};

using Network = std::variant<DecoderModel, EncoderModel>;

struct Model {
  std::filesystem::path path;
  std::string architecture;
  std::string format;  // for people: "safetensors", "GGUF Q4_K", "MLX 4-bit"
  Network network;
  // What the files make it. A decoder chats, or embeds by its last token where it was saved without a head or with a
  // pooling, or ranks where files name its answers' ids; an encoder embeds, or with a head of one label ranks, of more
  // classifies.
  ModelKind kind = ModelKind::chat;
  EmbeddingUse embedding;            // of embedders
  std::optional<AnswerIds> answers;  // of a decoder that ranks by its files
  std::vector<std::string> labels;   // of an encoder with a head, by its logits
  std::variant<TokenizerJson, GgufVocabulary> tokenizer;
  std::optional<std::string> chat_template;           // Jinja source
  std::map<std::string, std::string> special_tokens;  // "bos_token" -> "<s>", ..., for the chat template
  std::vector<std::int32_t> stop_ids;                 // ids that end a turn
  GenerationDefaults generation;
  std::uint64_t weight_bytes = 0;  // of all tensors in the files

  bool is_decoder() const { return std::holds_alternative<DecoderModel>(network); }
  int context_tokens() const;
  int vocabulary() const;
};

// Opens a directory in the Hugging Face layout or a single .gguf file. Throws Error invalid_path, invalid_weights,
// invalid_config or invalid_tokenizer with the file and the field.
Model open_model(const FileSystem& files, const std::filesystem::path& path);

}  // namespace cortex

// One text of a call, made of the tokens that the engine samples: detokenized, cut at stop strings, with each token's
// log-probability told beside the piece in which its text begins. Owned by the Generation; one thread at a time.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "service/stop_strings.h"
#include "text/detokenizer.h"

namespace cortex {

// A token as text; bytes may be a part of a character.
struct TokenText {
  std::string bytes;
  std::optional<float> logprob;                    // none for the first token of a prompt
  std::vector<std::pair<std::string, float>> top;  // bytes and logprob, likeliest first
  std::size_t begin_characters = 0;                // of the text before it
};

struct TextPiece {
  std::string text;
  std::vector<TokenText> tokens;  // when logprobs are wanted

  bool empty() const { return text.empty() && tokens.empty(); }
};

class ChoiceText {
 public:
  // `shown` are special tokens whose text is a part of it.
  ChoiceText(std::shared_ptr<const Tokenizer> tokenizer, std::vector<std::string> stops, bool wants_logprobs,
             std::vector<TokenId> shown = {});

  // The text goes on where this prompt, `characters` long, ends; otherwise it stands for itself. Before any push().
  void continue_after(std::span<const TokenId> prompt, std::size_t characters);

  // What may be shown now that this token has come. Nothing more once a stop string has come.
  TextPiece push(const SampledToken& token);
  // The rest.
  TextPiece finish();
  bool met_stop_string() const { return stops_.matched(); }

 private:
  // A token whose text is not wholly shown yet, with the byte of the text where it begins.
  struct Told {
    std::size_t begin = 0;
    TokenText token;
  };
  TextPiece show(std::string text, bool at_the_end);

  std::shared_ptr<const Tokenizer> tokenizer_;
  Detokenizer detokenizer_;
  StopStrings stops_;
  bool wants_logprobs_;
  std::size_t decoded_bytes_ = 0;  // of whole characters so far, shown or not
  std::size_t decoded_characters_ = 0;
  std::vector<Told> told_;  // tokens whose logprobs wait for their text
};

TokenText token_text(const Tokenizer& tokenizer, TokenId token, std::span<const TokenLogprob> top);

// A prompt as text.
struct PromptText {
  std::string text;
  std::vector<TokenId> ids;
  std::size_t unwritten = 0;  // the first ids that the text does not hold: what the tokenizer puts before every text
};

// The prompt's tokens with their log-probabilities: `logprobs` [ids - 1] of ids[1..], `top` as logprobs, or empty.
std::vector<TokenText> prompt_tokens(const std::shared_ptr<const Tokenizer>& tokenizer, const PromptText& prompt,
                                     std::span<const float> logprobs, std::span<const std::vector<TokenLogprob>> top);

// Unicode characters of valid UTF-8.
std::size_t count_characters(std::string_view text);

}  // namespace cortex

#include "service/choice_text.h"

#include <algorithm>
#include <string_view>

#include "base/error.h"

namespace cortex {

ChoiceText::ChoiceText(std::shared_ptr<const Tokenizer> tokenizer, std::vector<std::string> stops, bool wants_logprobs,
                       std::vector<TokenId> shown)
    : tokenizer_(std::move(tokenizer)),
      detokenizer_(tokenizer_, true, std::move(shown)),
      stops_(std::move(stops)),
      wants_logprobs_(wants_logprobs) {}

void ChoiceText::continue_after(std::span<const TokenId> prompt, std::size_t characters) {
  for (const TokenId id : prompt) detokenizer_.push(id);
  decoded_characters_ = characters;
}

TextPiece ChoiceText::push(const SampledToken& token) {
  if (wants_logprobs_) {
    TokenText told = token_text(*tokenizer_, token.token, token.top_logprobs);
    told.logprob = token.logprob;
    told.begin_characters = decoded_characters_;
    told_.push_back({decoded_bytes_, std::move(told)});
  }
  const std::string text = detokenizer_.push(token.token);
  decoded_bytes_ += text.size();
  decoded_characters_ += count_characters(text);
  return show(stops_.push(text), false);
}

TextPiece ChoiceText::finish() {
  std::string rest = stops_.push(detokenizer_.finish());
  rest += stops_.finish();
  return show(std::move(rest), true);
}

TextPiece ChoiceText::show(std::string text, bool at_the_end) {
  TextPiece piece;
  piece.text = std::move(text);
  // Past a stop string no token is told.
  const auto shown = [&](const Told& told) {
    return told.begin < stops_.shown_bytes() || (at_the_end && !stops_.matched());
  };
  const auto rest = std::find_if_not(told_.begin(), told_.end(), shown);
  for (auto told = told_.begin(); told != rest; ++told) piece.tokens.push_back(std::move(told->token));
  told_.erase(told_.begin(), rest);
  return piece;
}

TokenText token_text(const Tokenizer& tokenizer, TokenId token, std::span<const TokenLogprob> top) {
  TokenText text;
  text.bytes = tokenizer.token_bytes(token);
  for (const auto& other : top) text.top.emplace_back(tokenizer.token_bytes(other.token), other.logprob);
  return text;
}

std::vector<TokenText> prompt_tokens(const std::shared_ptr<const Tokenizer>& tokenizer, const PromptText& prompt,
                                     std::span<const float> logprobs, std::span<const std::vector<TokenLogprob>> top) {
  CORTEX_CHECK(logprobs.size() + 1 == prompt.ids.size() && (top.empty() || top.size() == logprobs.size()));
  Detokenizer detokenizer(tokenizer, false);
  std::size_t characters = 0;
  std::vector<TokenText> tokens;
  for (std::size_t i = 0; i < prompt.ids.size(); ++i) {
    const bool has_top = i > 0 && !top.empty();
    tokens.push_back(token_text(*tokenizer, prompt.ids[i],
                                has_top ? std::span<const TokenLogprob>(top[i - 1]) : std::span<const TokenLogprob>()));
    tokens.back().begin_characters = characters;
    if (i > 0) tokens.back().logprob = logprobs[i - 1];
    if (i >= prompt.unwritten) characters += count_characters(detokenizer.push(prompt.ids[i]));
  }
  return tokens;
}

std::size_t count_characters(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

}  // namespace cortex

// The input is the text of a tokenizer.json and, after it, a text to encode; or, beginning with "gguf", the parts of a
// vocabulary as GGUF files have it: model, pre-tokenizer, tokens and merges (one a line), types (a digit a token),
// text.
#include <algorithm>
#include <string>
#include <vector>

#include "input.h"
#include "text/tokenizer.h"

namespace cortex {
namespace {

constexpr std::string_view kVocabulary = "gguf";

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

Tokenizer from_vocabulary(std::span<const std::string_view> parts) {
  Vocabulary vocabulary;
  vocabulary.model = parts[1];
  vocabulary.pre = parts[2];
  vocabulary.tokens = lines_of(parts[3]);
  vocabulary.merges = lines_of(parts[4]);
  for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    vocabulary.token_types.push_back(i < parts[5].size() ? parts[5][i] - '0' : 1);
    vocabulary.scores.push_back(-static_cast<float>(i));
  }
  if (!vocabulary.tokens.empty()) vocabulary.bos = vocabulary.eos = 0;
  vocabulary.add_bos = parts[5].size() % 2 == 1;
  return Tokenizer::from_vocabulary(vocabulary);
}

void use(const Tokenizer& tokenizer, std::string_view text) {
  for (const bool parse_special : {false, true}) {
    const auto ids = tokenizer.encode(text, {.add_special_tokens = true, .parse_special = parse_special});
    for (const std::int32_t id : ids) CORTEX_CHECK(id >= 0 && id < tokenizer.vocabulary_size());
    tokenizer.decode(ids, parse_special);
  }
  tokenizer.encode_pair(text, "a second text");
}

}  // namespace
}  // namespace cortex

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cortex;
  const std::string_view input = text_of(data, size);
  try {
    if (input.starts_with(kVocabulary)) {
      const auto parts = parts_of<7>(input);
      use(from_vocabulary(parts), parts[6]);
    } else {
      const auto parts = parts_of<2>(input);
      use(Tokenizer::from_json(parts[0]), parts[1].empty() ? "The  cat's Größe, 東京 🙂\n" : parts[1]);
    }
  } catch (const Error& error) {
    check_refusal(error);
  }
  return 0;
}

// Texts for an encoder, and what it makes of them.
#pragma once

#include <vector>

#include "backend/backend.h"

namespace cortex {

inline PackedTexts pack(const std::vector<std::vector<TokenId>>& texts) {
  PackedTexts packed;
  packed.starts = {0};
  for (const std::vector<TokenId>& text : texts) {
    packed.tokens.insert(packed.tokens.end(), text.begin(), text.end());
    packed.starts.push_back(static_cast<std::int32_t>(packed.tokens.size()));
  }
  packed.hidden = true;
  return packed;
}

inline EncodeResult encode(EncoderBackend& encoder, const PackedTexts& texts) {
  EncodeResult result;
  encoder.encode(texts, &result);
  return result;
}

}  // namespace cortex

// Texts to try a tokenizer with: a seed makes the same ones everywhere.
#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <string>

#include "base/error.h"

namespace cortex {

inline std::string utf8_of(char32_t c) {
  const auto byte = [](char32_t value) { return static_cast<char>(static_cast<unsigned char>(value)); };
  if (c < 0x80) return {byte(c)};
  if (c < 0x800) return {byte(0xC0 | c >> 6), byte(0x80 | (c & 0x3F))};
  if (c < 0x10000) return {byte(0xE0 | c >> 12), byte(0x80 | (c >> 6 & 0x3F)), byte(0x80 | (c & 0x3F))};
  return {byte(0xF0 | c >> 18), byte(0x80 | (c >> 12 & 0x3F)), byte(0x80 | (c >> 6 & 0x3F)), byte(0x80 | (c & 0x3F))};
}

class RandomTexts {
 public:
  explicit RandomTexts(std::uint32_t seed) : engine_(seed) {}

  // Up to 40 pieces: characters of many scripts and of none, runs of blanks and digits, pieces of words.
  std::string next() {
    std::string text;
    for (std::uint32_t left = below(41); left > 0; --left) text += piece();
    return text;
  }

  // [0, limit)
  std::uint32_t below(std::uint32_t limit) { return static_cast<std::uint32_t>(engine_() % limit); }

 private:
  std::string piece() {
    switch (below(8)) {
      case 0:
        return utf8_of(any_character());
      case 1:
        return std::string(1 + below(40), ' ');
      case 2:
        return std::string(1 + below(6), kBlanks[below(kBlanks.size())]);
      case 3:
        return std::to_string(below(1 << (1 + below(30))));
      case 4:
        return utf8_of(letter());
      case 5:
        return {static_cast<char>('!' + below(94))};
      default:
        return kWords[below(kWords.size())];
    }
  }

  char32_t any_character() {
    const char32_t c = below(0x110000);
    return c >= 0xD800 && c < 0xE000 ? U'\uFFFD' : c;
  }

  // Of the scripts that vocabularies know, and of characters that combine.
  char32_t letter() {
    const auto& [first, size] = kScripts[below(kScripts.size())];
    return first + below(size);
  }

  static constexpr std::array<char, 5> kBlanks = {'\n', '\t', '\r', '\0', '\x0B'};
  static constexpr std::array<std::pair<char32_t, std::uint32_t>, 10> kScripts = {{{0xA0, 0x1B0},
                                                                                   {0x300, 0x70},
                                                                                   {0x370, 0x1C0},
                                                                                   {0x5D0, 0x90},
                                                                                   {0x900, 0x80},
                                                                                   {0x2000, 0x300},
                                                                                   {0x3040, 0xC0},
                                                                                   {0x4E00, 0x2000},
                                                                                   {0xAC00, 0x1000},
                                                                                   {0x1F300, 0x400}}};
  static constexpr std::array<const char*, 20> kWords = {
      "The",  " the", "'s", "'LL",  " scheduler", "ing",    "er",     " unhappiness", "e\u0301", "</s>",
      "<0x4", "1>",   "Ġ",  "\r\n", " \n ",       "return", " größe", "Привет",       "。",      "\u3000"};

  std::mt19937 engine_;
};

}  // namespace cortex

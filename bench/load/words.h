// Text for prompts: words that are one token each in the vocabularies of most models, chosen at random but the same for
// the same seed on every machine. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>

namespace cortex {

// `count` words, each after a space but the first.
std::string random_words(std::uint64_t seed, int count);

// A seed of its own for each `index`.
std::uint64_t seed_of(std::uint64_t seed, std::uint64_t index);

}  // namespace cortex

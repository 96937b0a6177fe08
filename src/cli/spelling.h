// What somebody who has mistyped a name may have meant. Pure; any thread.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cortex {

// Insertions, deletions, replacements and swaps of neighbours that lead from `a` to `b` (optimal string alignment).
std::size_t edit_distance(std::string_view a, std::string_view b);

// The nearest of `known`, the first of several; when even that is far, beyond a third of the word, the first that
// begins with the word.
std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& known);

// "; did you mean NAME?" or nothing.
std::string suggestion(std::string_view word, const std::vector<std::string>& known);

}  // namespace cortex

// Foreign bytes as characters: whether they are UTF-8, and what of them may be shown. Pure; any thread.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace cortex {

// Where `text` ceases to be UTF-8; nothing when all of it is. Source: RFC 3629.
std::optional<std::size_t> first_bad_byte(std::string_view text);

// `text` for people: control characters except line ends, with which a terminal could be told to do things, and bytes
// that are no UTF-8 become "?".
std::string printable(std::string_view text);

// `text` with spaces for line ends.
std::string in_one_line(std::string text);

}  // namespace cortex

// What a message may repeat of foreign input. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

namespace cortex {

// At most 64 bytes of `input`, cut between characters, in double quotes.
std::string excerpt(std::string_view input);

}  // namespace cortex

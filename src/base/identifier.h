// Ids that the server makes: a prefix and 24 characters nobody can guess. Any thread.
#pragma once

#include <string>
#include <string_view>

namespace cortex {

// `prefix` + 24 of [0-9A-Za-z] from the system's random numbers: "req_4fzT...".
std::string make_identifier(std::string_view prefix);

}  // namespace cortex

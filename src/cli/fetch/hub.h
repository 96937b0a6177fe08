// The hub's protocol: which files a revision has, and where each is. One owner; one thread.
// Source: huggingface.co/docs/hub/api, "Repo listing API", and the hub's own Python client.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/fetch/download.h"
#include "cli/fetch/retrieval.h"
#include "model/hub_cache.h"

namespace cortex {

inline constexpr const char* kHubEndpoint = "https://huggingface.co";  // unless $HF_ENDPOINT says another

struct HubFile {
  std::string path;  // within the repository
  std::uint64_t size_bytes = 0;
  std::string checksum;  // SHA-256, or git's SHA-1 where the file is small; the name of its blob in the cache
};

struct HubRevision {
  std::string commit;
  std::vector<HubFile> files;
};

// The token of --token-file if that is given, else of HF_TOKEN, HF_TOKEN_PATH or the hub's home; empty where there is
// none. Throws Error invalid_path for a file that was named and can't be read, invalid_value for what is no token.
std::string hub_token(const FileSystem& files, const Environment& environment, const std::string& token_file);

// Reads the answer of /api/models/ID/revision/REV?blobs=true. Throws Error internal_error for what is none.
HubRevision parse_hub_revision(const std::string& json, const std::string& source);

class Hub {
 public:
  Hub(HttpClient& client, Credential credential) : client_(client), credential_(std::move(credential)) {}

  // Throws NetworkFailure; Error model_not_found, invalid_api_key or internal_error.
  HubRevision revision(const HubName& name) const;
  RemoteFile remote(const HubName& name, const std::string& commit, const HubFile& file) const;

 private:
  HttpClient& client_;
  Credential credential_;
};

}  // namespace cortex

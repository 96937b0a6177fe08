// Fetches one file whose size and checksum are known, through broken connections and across processes. One owner; one
// thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "cli/fetch/http_client.h"
#include "cli/fetch/part_file.h"
#include "cli/fetch/progress.h"
#include "cli/fetch/retries.h"
#include "cli/fetch/retrieval.h"

namespace cortex {

struct RemoteFile {
  std::string name;  // for people
  Url url;
  std::uint64_t size_bytes = 0;
  std::string checksum;  // SHA-256 or git's SHA-1, in hexadecimal
};

class Downloader {
 public:
  Downloader(HttpClient& client, Credential credential, RetryRules rules, Progress& progress)
      : client_(client), credential_(std::move(credential)), rules_(rules), progress_(progress) {}

  // The file is at `path` afterwards. Throws NetworkFailure when the attempts are used up, Error for a status that does
  // not pass, and as PartFile.
  void fetch(const RemoteFile& file, const std::filesystem::path& path);

 private:
  // One connection's worth.
  void attempt(const RemoteFile& file, PartFile* part, std::string* etag);

  HttpClient& client_;
  Credential credential_;
  RetryRules rules_;
  Progress& progress_;
};

// Throws Error model_not_found, invalid_api_key or internal_error for a status past 399, saying what to do.
void throw_for_status(const Retrieval& retrieval, const std::string& what, const Credential& credential);

// The bytes of "Content-Range: bytes FIRST-LAST/TOTAL"; false for anything else.
bool read_content_range(std::string_view text, std::uint64_t* first, std::uint64_t* total);

}  // namespace cortex

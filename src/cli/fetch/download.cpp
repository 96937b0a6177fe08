#include "cli/fetch/download.h"

#include <fmt/core.h>

#include <charconv>

#include "base/error.h"
#include "base/excerpt.h"
#include "cli/characters.h"

namespace cortex {
namespace {

bool read_number(std::string_view* text, std::uint64_t* value) {
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), *value);
  if (error != std::errc()) return false;
  text->remove_prefix(static_cast<std::size_t>(end - text->data()));
  return true;
}

bool skip(std::string_view* text, std::string_view prefix) {
  if (!text->starts_with(prefix)) return false;
  text->remove_prefix(prefix.size());
  return true;
}

// Whether a 206 continues what is here; anything else is not the answer that was asked for.
bool continues(const ReplyHead& head, const RemoteFile& file, std::uint64_t here_bytes) {
  std::uint64_t first = 0, total = 0;
  return read_content_range(head.header("content-range"), &first, &total) && first == here_bytes &&
         total == file.size_bytes;
}

bool is_strong(const std::string& etag) { return etag.size() > 2 && etag.front() == '"'; }

}  // namespace

bool read_content_range(std::string_view text, std::uint64_t* first, std::uint64_t* total) {
  std::uint64_t last = 0;
  return skip(&text, "bytes ") && read_number(&text, first) && skip(&text, "-") && read_number(&text, &last) &&
         skip(&text, "/") && read_number(&text, total) && text.empty() && *first <= last && last < *total;
}

void throw_for_status(const Retrieval& retrieval, const std::string& what, const Credential& credential) {
  const int status = retrieval.last.status;
  if (status < 400) return;
  const std::string& host = retrieval.url.host;
  if (status == 401 || status == 403) {
    const bool gated = retrieval.last.header("x-error-code") == "GatedRepo";
    std::string next = gated ? "it is gated: accept its terms on the hub's page of it, then give a token"
                             : "it is private or does not exist: give a token that may read it";
    if (!credential.token.empty()) {
      next = may_carry_secret(credential.home, retrieval.url)
                 ? (gated ? "the token's owner has not been granted access: accept its terms on the hub's page of it"
                          : "the token may not read it, or it does not exist")
                 : "the token was not sent, since that address is not encrypted or not the hub's own";
    }
    throw Error(ErrorCode::invalid_api_key,
                fmt::format("{}: {} refuses it (status {}): {} (HF_TOKEN, or --token-file)", what, host, status, next));
  }
  if (status == 404) {
    throw Error(ErrorCode::model_not_found, fmt::format("{}: {} has no such thing; is the name right?", what, host));
  }
  throw Error(ErrorCode::internal_error, fmt::format("{}: {} answers with status {}: {}", what, host, status,
                                                     in_one_line(excerpt(retrieval.error_text))));
}

void Downloader::attempt(const RemoteFile& file, PartFile* part, std::string* etag) {
  RetrievalRequest request;
  request.url = file.url;
  if (part->here_bytes() > 0) {
    request.headers.push_back(fmt::format("Range: bytes={}-", part->here_bytes()));
    if (is_strong(*etag)) request.headers.push_back("If-Range: " + *etag);
  }
  const std::uint64_t asked_from = part->here_bytes();
  bool begun = false;
  const Retrieval retrieval =
      retrieve(client_, request, credential_, [&](const ReplyHead& head, std::string_view bytes) {
        if (!begun) {
          begun = true;
          *etag = head.header("etag");
          const bool goes_on = head.status == 206 && continues(head, file, asked_from);
          if (head.status == 206 && !goes_on) throw NetworkFailure(file.url.host + ": another range than asked for");
          if (!goes_on && asked_from > 0) part->start_over();
        }
        part->append(bytes);
        progress_.at(part->here_bytes());
      });
  if (retrieval.last.status == 416) {  // what is here is no beginning of what is there
    part->start_over();
    throw NetworkFailure(file.url.host + ": refuses to go on from what is here");
  }
  throw_if_passing(retrieval);
  throw_for_status(retrieval, file.name, credential_);
  if (!part->is_whole()) {
    throw NetworkFailure(fmt::format("{}: {} of {} bytes came", file.url.host, part->here_bytes(), file.size_bytes));
  }
}

void Downloader::fetch(const RemoteFile& file, const std::filesystem::path& path) {
  PartFile part(path, file.size_bytes, file.checksum);
  progress_.begin(file.name, part.here_bytes(), file.size_bytes);
  std::string etag;
  Retries retries(file.name, rules_, progress_);
  while (!part.is_whole()) {
    const std::uint64_t before = part.here_bytes();
    try {
      attempt(file, &part, &etag);
    } catch (const NetworkFailure& failure) {
      if (part.here_bytes() >= before + rules_.progress_bytes) retries.begin_again();
      retries.wait_after(failure, "try again: it goes on from " + format_bytes(part.here_bytes()));
    }
  }
  part.finish();
  progress_.end();
}

}  // namespace cortex

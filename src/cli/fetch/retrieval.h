// A GET that follows redirects by hand, so that a secret goes to the origin it belongs to and nowhere else. One thread.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "cli/fetch/http_client.h"

namespace cortex {

inline constexpr int kMostRedirects = 10;

// A secret and whom it may be told; see may_carry_secret().
struct Credential {
  Url home;
  std::string token;  // empty: there is none
};

struct RetrievalRequest {
  Url url;
  std::vector<std::string> headers;  // sent to every origin
};

struct Retrieval {
  ReplyHead last;          // the answer of where it ended
  Url url;                 // where it ended
  std::string error_text;  // the body's beginning, of an answer past 399
};

// `sink` gets the body of an answer below 300 only. Throws Error invalid_value for a redirect that may not be followed
// and as HttpClient::send.
Retrieval retrieve(HttpClient& client, const RetrievalRequest& request, const Credential& credential,
                   const BodySink& sink);

// The seconds of a Retry-After; 0 for a date or nothing.
std::chrono::seconds read_retry_after(const std::string& text);

// For a status past 399 that may be another one soon (408, 429, 5xx): throws ServerBusy.
void throw_if_passing(const Retrieval& retrieval);

}  // namespace cortex

#include "cli/fetch/retrieval.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cstdint>

#include "base/error.h"

namespace cortex {
namespace {

constexpr std::size_t kLongestErrorText = 4096;
constexpr std::size_t kLongestIgnoredBody = 1 << 20;

bool is_redirect(const ReplyHead& head) {
  const int status = head.status;
  const bool known = status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
  return known && !head.header("location").empty();
}

// What is no content is kept in part, for messages, and bounded.
BodySink content_only(const BodySink& sink, std::string* error_text) {
  return [&sink, error_text, ignored = std::size_t{0}](const ReplyHead& head, std::string_view bytes) mutable {
    if (head.status < 300) return sink(head, bytes);
    error_text->append(bytes.substr(0, kLongestErrorText - std::min(kLongestErrorText, error_text->size())));
    ignored += bytes.size();
    if (ignored > kLongestIgnoredBody) throw NetworkFailure(fmt::format("status {} with an endless body", head.status));
  };
}

}  // namespace

Retrieval retrieve(HttpClient& client, const RetrievalRequest& request, const Credential& credential,
                   const BodySink& sink) {
  Retrieval retrieval;
  retrieval.url = request.url;
  for (int hop = 0; hop <= kMostRedirects; ++hop) {
    ClientRequest step;
    step.url = retrieval.url;
    step.headers = request.headers;
    if (!credential.token.empty() && may_carry_secret(credential.home, step.url)) {
      step.headers.push_back("Authorization: Bearer " + credential.token);
    }
    retrieval.error_text.clear();
    retrieval.last = client.send(step, content_only(sink, &retrieval.error_text));
    if (!is_redirect(retrieval.last)) return retrieval;
    retrieval.url = follow_redirect(retrieval.url, retrieval.last.header("location"));
  }
  throw Error(ErrorCode::invalid_value,
              fmt::format("{}: redirects more than {} times", request.url.host, kMostRedirects));
}

std::chrono::seconds read_retry_after(const std::string& text) {
  std::uint32_t seconds = 0;
  const char* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, seconds);
  return std::chrono::seconds(error == std::errc() && end == last ? seconds : 0);
}

void throw_if_passing(const Retrieval& retrieval) {
  const int status = retrieval.last.status;
  if (status == 408 || status == 429 || status >= 500) {
    throw ServerBusy(fmt::format("{}: answers with status {}", retrieval.url.host, status),
                     read_retry_after(retrieval.last.header("retry-after")));
  }
}

}  // namespace cortex

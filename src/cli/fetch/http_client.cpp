#include "cli/fetch/http_client.h"

#include <curl/curl.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <exception>
#include <mutex>

#include "base/error.h"

namespace cortex {
namespace {

constexpr std::size_t kMostHeaders = 200;

struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using HeaderList = std::unique_ptr<curl_slist, FreeList>;

HeaderList header_list(const ClientRequest& request) {
  HeaderList list;
  const auto append = [&](const std::string& header) {
    curl_slist* longer = curl_slist_append(list.get(), header.c_str());
    if (!longer) throw std::bad_alloc();
    if (!list) list.reset(longer);  // a list that is not empty keeps its head
  };
  for (const auto& header : request.headers) append(header);
  if (request.body) append("Content-Type: application/json");
  append("Expect:");  // no waiting for "100 Continue"
  return list;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())) != 0) text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) text.remove_suffix(1);
  return text;
}

// What a running request and curl's callbacks share. No exception may pass through curl: it waits here.
struct Exchange {
  const BodySink& sink;
  const std::function<bool()>& interrupted;
  ReplyHead head;
  std::exception_ptr failure;

  void add_header(std::string_view line) {
    if (line.starts_with("HTTP/")) {  // a new head: the one before was interim
      head = {};
      const auto space = line.find(' ');
      head.status = space == std::string_view::npos ? 0 : std::atoi(std::string(line.substr(space + 1)).c_str());
      return;
    }
    const auto colon = line.find(':');
    if (colon == std::string_view::npos || head.headers.size() >= kMostHeaders) return;
    std::string name(line.substr(0, colon));
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    head.headers.emplace(std::move(name), trimmed(line.substr(colon + 1)));
  }
};

template <typename Action>
std::size_t guarded(Exchange* exchange, std::size_t size, Action action) {
  try {
    action();
    return size;
  } catch (...) {
    exchange->failure = std::current_exception();
    return size == 0 ? 1 : 0;  // another number than was given ends the request
  }
}

std::size_t on_header(char* data, std::size_t, std::size_t size, void* exchange) {
  auto* self = static_cast<Exchange*>(exchange);
  return guarded(self, size, [&] { self->add_header({data, size}); });
}

std::size_t on_body(char* data, std::size_t, std::size_t size, void* exchange) {
  auto* self = static_cast<Exchange*>(exchange);
  return guarded(self, size, [&] { self->sink(self->head, {data, size}); });
}

int on_progress(void* exchange, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  auto* self = static_cast<Exchange*>(exchange);
  if (!self->interrupted()) return 0;
  self->failure = std::make_exception_ptr(Interrupted());
  return 1;
}

void start_curl_once() {
  static std::once_flag once;
  std::call_once(once, [] { CORTEX_CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK); });
}

}  // namespace

const std::string& ReplyHead::header(const std::string& name) const {
  static const std::string none;
  const auto found = headers.find(name);
  return found == headers.end() ? none : found->second;
}

// A handle keeps its connections for the requests to come.
struct HttpClient::Handle {
  CURL* curl = curl_easy_init();
  ~Handle() { curl_easy_cleanup(curl); }

  template <typename Value>
  void set(CURLoption option, Value value) const {
    CORTEX_CHECK(curl_easy_setopt(curl, option, value) == CURLE_OK);
  }
};

HttpClient::HttpClient(ClientLimits limits, std::function<bool()> interrupted)
    : limits_(limits), interrupted_(std::move(interrupted)) {
  start_curl_once();
  handle_ = std::make_unique<Handle>();
  if (!handle_->curl) throw std::bad_alloc();
}

HttpClient::~HttpClient() = default;

ReplyHead HttpClient::send(const ClientRequest& request, const BodySink& sink) {
  Exchange exchange{sink, interrupted_, {}, nullptr};
  const HeaderList headers = header_list(request);
  std::array<char, CURL_ERROR_SIZE> reason{};
  const Handle& handle = *handle_;
  handle.set(CURLOPT_URL, request.url.text.c_str());
  handle.set(CURLOPT_PROTOCOLS_STR, "http,https");
  handle.set(CURLOPT_FOLLOWLOCATION, 0L);
  if (request.url.is_loopback()) handle.set(CURLOPT_NOPROXY, "*");
  handle.set(CURLOPT_NOSIGNAL, 1L);
  handle.set(CURLOPT_USERAGENT, "cortex/" CORTEX_VERSION);
  handle.set(CURLOPT_HTTPHEADER, headers.get());
  handle.set(CURLOPT_ERRORBUFFER, reason.data());
  handle.set(CURLOPT_CONNECTTIMEOUT, static_cast<long>(limits_.connect.count()));
  handle.set(CURLOPT_LOW_SPEED_LIMIT, 1L);
  handle.set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(limits_.silence.count()));
  handle.set(CURLOPT_HEADERFUNCTION, &on_header);
  handle.set(CURLOPT_HEADERDATA, &exchange);
  handle.set(CURLOPT_WRITEFUNCTION, &on_body);
  handle.set(CURLOPT_WRITEDATA, &exchange);
  handle.set(CURLOPT_NOPROGRESS, 0L);
  handle.set(CURLOPT_XFERINFOFUNCTION, &on_progress);
  handle.set(CURLOPT_XFERINFODATA, &exchange);
  if (request.head_only) handle.set(CURLOPT_NOBODY, 1L);
  if (request.body) {
    handle.set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body->size()));
    handle.set(CURLOPT_POSTFIELDS, request.body->c_str());
  }

  const CURLcode code = curl_easy_perform(handle.curl);
  curl_easy_reset(handle.curl);  // else it would keep pointers to what ends here
  if (exchange.failure) std::rethrow_exception(exchange.failure);
  if (code == CURLE_OK) return std::move(exchange.head);
  throw NetworkFailure(fmt::format("{}: {}", request.url.host, reason[0] ? reason.data() : curl_easy_strerror(code)));
}

BodySink append_to(std::string* out, std::size_t limit_bytes, std::string what) {
  return [=, what = std::move(what)](const ReplyHead&, std::string_view bytes) {
    if (bytes.size() > limit_bytes - out->size()) {
      throw Error(ErrorCode::request_too_large, fmt::format("{}: exceeds the limit of {} bytes", what, limit_bytes));
    }
    out->append(bytes);
  };
}

}  // namespace cortex

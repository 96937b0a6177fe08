// One HTTP request after another, by libcurl. It follows no redirect, writes no file and knows no secret: those that
// use it decide. Proxies are those of the environment, except for this machine's own addresses, which need none and
// whose secrets are no proxy's business. One owner; one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "cli/fetch/url.h"
#include "cli/interrupt.h"

namespace cortex {

// The other side can't be reached, went away in the middle or says that it is overloaded: the same may work later.
class NetworkFailure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The other side answers, but not now.
class ServerBusy : public NetworkFailure {
 public:
  ServerBusy(const std::string& what, std::chrono::seconds ask_again_after)
      : NetworkFailure(what), ask_again_after_(ask_again_after) {}

  // What it has asked for; 0 where it has not.
  std::chrono::seconds ask_again_after() const { return ask_again_after_; }

 private:
  std::chrono::seconds ask_again_after_;
};

struct ClientRequest {
  Url url;
  bool head_only = false;
  std::vector<std::string> headers;  // "Name: value"
  std::optional<std::string> body;   // makes it a POST of JSON
};

struct ReplyHead {
  int status = 0;
  std::map<std::string, std::string> headers;  // by their lower-case names

  // Empty when there is none.
  const std::string& header(const std::string& name) const;
};

// Called for each piece of the body, after the whole head; what it throws ends the request and comes out of send().
using BodySink = std::function<void(const ReplyHead& head, std::string_view bytes)>;

struct ClientLimits {
  std::chrono::seconds connect{20};
  std::chrono::seconds silence{30};  // without a byte either way; 0: a reply may take as long as it likes
};

class HttpClient {
 public:
  // `interrupted` is asked several times a second.
  HttpClient(ClientLimits limits, std::function<bool()> interrupted);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Returns the head when the body is over. Throws NetworkFailure, Interrupted, or what the sink threw.
  ReplyHead send(const ClientRequest& request, const BodySink& sink);

 private:
  struct Handle;

  ClientLimits limits_;
  std::function<bool()> interrupted_;
  std::unique_ptr<Handle> handle_;
};

// A sink that appends to `out`, and throws Error request_too_large past the limit. `what` is named by it.
BodySink append_to(std::string* out, std::size_t limit_bytes, std::string what);

}  // namespace cortex

// The HTTP/1.1 server: accepts connections, puts every request through the gate, reads its body, hands it to its
// route's handler on the caller's threads and sends the reply. Owned by the front. Its own one or two threads do input
// and output, and call the handlers that answer at once; nothing a client does may block or stop them.
//
// A client that closes its sending side is still served. Whether it has closed the other one too shows only when
// something is sent, so it gets interim 102 replies until its own comes. A client that is gone (reset, or not reading
// for the write deadline, or behind by more than the stream buffer) ends its request through HttpReply::on_disconnect.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "http/rate_limit.h"
#include "http/router.h"

namespace cortex {

// One request that is over, for metrics.
struct RequestRecord {
  std::string_view route;  // the pattern, "-" where none matched
  int status = 0;          // 499: the client left before there was one
  double seconds = 0.0;    // from the end of its header block
  std::string model;       // that it was for; empty where it was for none, or was refused before that was known
  std::optional<ErrorCode> error;
};

struct ListenerOptions {
  std::string address = "127.0.0.1";  // numeric
  std::uint16_t port = 0;             // 0 picks a free one
  int threads = 1;
  std::vector<std::string> host_names;  // allowed in Host and Origin beside localhost
  std::vector<std::string> api_keys;    // none, nor admin keys: everybody may ask
  std::vector<std::string> admin_keys;  // keys for everything
  RateLimitRule rate_limit;             // of POST requests, for each key, without keys for each address
  std::size_t connection_limit = 1024;  // beyond it the backlog waits
  std::uint64_t body_bytes_limit = std::uint64_t{256} << 20;  // of all bodies in flight, as they come; beyond it 503
  std::size_t stream_buffer_limit_bytes = 1 << 20;            // unsent, of one stream
  std::chrono::milliseconds header_deadline{10'000};          // from a request's first byte to its last header
  std::chrono::milliseconds body_deadline{30'000};           // between two pieces of a body, and for a slow one's start
  std::uint64_t body_rate_bytes_per_s = 1024;                // a body that comes more slowly than this is given up
  std::chrono::milliseconds write_deadline{60'000};          // between two pieces a client takes
  std::chrono::milliseconds idle_deadline{60'000};           // between two requests
  std::chrono::milliseconds ping_after{15'000};              // of silence in an event stream
  std::chrono::milliseconds probe_half_closed_after{1'000};  // without a reply, and between two probes
  std::chrono::milliseconds linger{2'000};  // how long what a client still sends is read after the last reply
  // Runs handlers: a thread pool's submit. Must not run them before it returns.
  std::function<void(std::function<void()>)> dispatch;
  std::function<void(const RequestRecord&)> observe;  // on the listener's thread; may be empty
};

class Listener {
 public:
  // Binds and serves. Throws std::system_error if the address can't be bound.
  Listener(Router router, ListenerOptions options);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  std::uint16_t port() const;

  // From now on only routes that answer while draining do; every other request gets 503. Connections close: those
  // without a request, or with half a header, at once; the others after their reply. Requests in flight go on.
  void drain();
  // False if requests (whole headers at least) are still in flight after that time.
  bool wait_until_idle(std::chrono::milliseconds timeout);
  // Cuts every connection and ends the threads. Handlers still running find their replies disconnected.
  void stop();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cortex

#include "http/connection.h"

#include <fmt/core.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/identifier.h"
#include "base/log.h"
#include "http/body_reader.h"
#include "http/gate.h"
#include "http/peer_address.h"
#include "http/pending_reply.h"

namespace cortex {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using SteadyTime = std::chrono::steady_clock::time_point;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

SteadyTime now() { return std::chrono::steady_clock::now(); }

double seconds_since(SteadyTime start) { return std::chrono::duration<double>(now() - start).count(); }

Error failed() { return Error(ErrorCode::internal_error, "the server failed on this request"); }

void handle_request(const HttpHandler& handler, HttpRequest request, const std::shared_ptr<HttpReply>& reply,
                    Dialect dialect) {
  const std::string id = request.id;
  try {
    handler(std::move(request), reply);
  } catch (const Error& error) {
    respond_error(*reply, error, dialect, id);
  } catch (const std::exception& error) {
    log_error(fmt::format("a handler failed: {}", error.what()), id);
    respond_error(*reply, failed(), dialect, id);
  }
}

// Whether the peer has closed its sending side at least.
bool has_closed_its_side(int socket) {
#ifdef POLLRDHUP
  pollfd state{socket, POLLRDHUP, 0};
  return ::poll(&state, 1, 0) == 1 && (state.revents & POLLRDHUP) != 0;
#else
  // Not seen behind a request that waits to be read.
  char byte = 0;
  return ::recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
#endif
}

Error draining() { return Error(ErrorCode::draining, "the server is shutting down and takes no new requests"); }

// What is known of a request so far.
struct Exchange {
  RequestHead head;
  RouteMatch match;
  std::string id = make_identifier("req_");
  std::string key_id;
  std::optional<Traffic::Request> request;  // once there is a whole header
  SteadyTime start = now();
};

}  // namespace

// Everything but the handlers' side of replies runs on its strand.
class Connection::Session : public std::enable_shared_from_this<Session> {
 public:
  Session(tcp::socket socket, ListenerShared& shared)
      : socket_(std::move(socket)),
        deadline_(socket_.get_executor()),
        signal_(socket_.get_executor()),
        shared_(shared) {
    error_code ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
    const auto local = socket_.local_endpoint(ignored);
    loopback_ = !ignored && is_loopback(local.address());
    const auto remote = socket_.remote_endpoint(ignored);
    peer_is_here_ = !ignored && is_loopback(remote.address());
    if (!ignored) peer_ = host_behind(remote.address());
  }

  asio::awaitable<void> run() {
    watch();
    while (!gone_) {
      const bool again = co_await serve();
      if (!again || *shared_.draining) break;
    }
    if (!gone_) co_await linger();
    abort();
  }

  auto executor() { return socket_.get_executor(); }

  void drain() {
    if (!awaits_head_) return;
    error_code ignored;
    interruption_ = Read::draining;
    socket_.cancel(ignored);
  }

  // Ends whatever the coroutine waits for.
  void abort() {
    error_code ignored;
    gone_ = true;
    socket_.close(ignored);
    disarm();
    wake();
  }

 private:
  enum class Read { data, end, late, draining };
  enum class Sent { keep_alive, close, gone };

  // Serves one request. False: nothing more is to be read from this connection.
  asio::awaitable<bool> serve() {
    awaits_head_ = true;
    const Read first = co_await wait_for_request();
    if (first != Read::data) co_return false;
    Exchange exchange;
    std::exception_ptr refusal;
    HttpRequest request;
    try {
      request = co_await read_request(exchange);
    } catch (...) {
      refusal = std::current_exception();
    }
    awaits_head_ = false;
    if (gone_) co_return false;
    const std::shared_ptr<PendingReply> reply = open_reply(exchange, refusal != nullptr);
    if (refusal) {
      refuse(exchange, *reply, refusal);
    } else if (!exchange.match.route) {
      reply->respond(204, {{"allow", exchange.match.allow}}, {});
    } else {
      dispatch(exchange, std::move(request), reply);
    }
    Sent sent = Sent::gone;
    sending_ = reply.get();
    try {
      sent = co_await send(*reply);
    } catch (const std::exception& error) {
      log_error(fmt::format("a reply could not be sent: {}", error.what()), exchange.id);
    }
    sending_ = nullptr;
    if (sent == Sent::gone) gone_ = true;
    reply->disconnect();
    record(exchange, *reply);
    co_return sent == Sent::keep_alive;
  }

  static void refuse(const Exchange& exchange, PendingReply& reply, const std::exception_ptr& why) {
    try {
      std::rethrow_exception(why);
    } catch (const Error& error) {
      const bool wrong_method = error.code() == ErrorCode::method_not_allowed;
      reply.refuse(error, wrong_method ? HttpHeaders{{"allow", exchange.match.allow}} : HttpHeaders());
    } catch (const std::exception& error) {
      log_error(fmt::format("a request could not be read: {}", error.what()), exchange.id);
      reply.refuse(failed());
    }
  }

  asio::awaitable<Read> wait_for_request() {
    if (!input_.empty()) co_return Read::data;
    const Read read = co_await read_some(now() + shared_.options.idle_deadline);
    co_return read;
  }

  // Everything between the first byte and the handler, in the gate's order. Throws Error.
  asio::awaitable<HttpRequest> read_request(Exchange& exchange) {
    const std::size_t head_bytes = co_await read_head();
    const std::string block = input_.substr(0, head_bytes);
    input_.erase(0, head_bytes);
    RequestHead& head = exchange.head;
    head = parse_head(block);
    exchange.request.emplace(shared_.traffic);
    awaits_head_ = false;
    if (!head.request_id.empty()) exchange.id = head.request_id;
    exchange.start = now();
    exchange.match = shared_.router.find(head.method, head.path);
    const Route* route = exchange.match.route;

    check_host_and_origin(head, loopback_, shared_.options.host_names);
    authorize(exchange);
    check_route(exchange.match, head.method, head.path);
    if (*shared_.draining && !(route && route->answers_while_draining)) {
      throw draining();
    }
    limit_rate(exchange);
    const std::uint64_t limit_bytes = route ? route->body_limit_bytes : 0;
    // A chunk's size line is framing too, so the first one is judged before the content type, unless the client waits.
    const bool chunk_first = head.chunked && !head.expects_continue;
    if (!chunk_first) check_content(head, limit_bytes);
    BodyReader reader(limit_bytes);
    if (reader.put(block) != block.size()) throw Error(ErrorCode::invalid_header, "invalid header: it ends too early");
    if (chunk_first) {
      co_await read_body(exchange, reader, &BodyReader::begun);
      check_content(head, limit_bytes);
    } else if (head.expects_continue && !reader.done() && input_.empty()) {
      const bool written = co_await write(kContinue);
      if (!written) gone_ = true;
    }
    co_await read_body(exchange, reader, &BodyReader::done);
    co_return HttpRequest{.method = head.method,
                          .path = head.path,
                          .body = reader.take(),
                          .path_id = exchange.match.id,
                          .authorization = head.authorization,
                          .key_id = exchange.key_id,
                          .id = exchange.id,
                          .loopback = peer_is_here_};
  }

  asio::awaitable<std::size_t> read_head() {
    const SteadyTime deadline = now() + shared_.options.header_deadline;
    std::size_t scanned_bytes = 0;
    for (;;) {
      const auto size = head_size(input_, scanned_bytes);
      if (size) co_return *size;
      scanned_bytes = input_.size();
      const Read read = co_await read_some(deadline);
      if (read == Read::late) {
        throw Error(ErrorCode::request_timeout, fmt::format("the header took longer than the limit of {} seconds",
                                                            shared_.options.header_deadline.count() / 1000.0));
      }
      if (read == Read::draining) throw draining();
      if (read == Read::end) throw Error(ErrorCode::invalid_header, "invalid header: it ends too early");
    }
  }

  asio::awaitable<void> read_body(Exchange& exchange, BodyReader& reader, bool (BodyReader::*far_enough)() const) {
    while (!(reader.*far_enough)() && !reader.done() && !gone_) {
      if (!input_.empty()) {
        const std::uint64_t before = reader.body_bytes();
        const std::size_t used = reader.put(input_);
        input_.erase(0, used);
        exchange.request->reserve(reader.body_bytes() - before);
        if (used > 0) continue;
      }
      const Read read = co_await read_some(body_deadline(exchange, reader.body_bytes()));
      if (read == Read::late) throw slow_body(exchange, reader.body_bytes());
      if (read == Read::end)
        throw Error(ErrorCode::invalid_framing, "invalid framing: the body ends early, in a chunk");
    }
  }

  // Silence has its limit, and so has a drip of single bytes.
  SteadyTime body_deadline(const Exchange& exchange, std::uint64_t came_bytes) const {
    const auto silence = shared_.options.body_deadline;
    const std::chrono::milliseconds allowed(came_bytes * 1000 / shared_.options.body_rate_bytes_per_s);
    return std::min(now() + silence, exchange.start + silence + allowed);
  }

  Error slow_body(const Exchange& exchange, std::uint64_t came_bytes) const {
    return Error(ErrorCode::request_timeout,
                 fmt::format("{} bytes of the body came in {:.1f} seconds; the limit is {} seconds between two pieces "
                             "and {} bytes a second",
                             came_bytes, seconds_since(exchange.start), shared_.options.body_deadline.count() / 1000.0,
                             shared_.options.body_rate_bytes_per_s));
  }

  void authorize(Exchange& exchange) const {
    const RouteMatch& match = exchange.match;
    Access access = match.route && match.route->admin ? Access::admin : Access::key;
    if (match.open || (match.open_on_loopback && peer_is_here_)) access = Access::anybody;
    exchange.key_id = shared_.keys.check(access, peer_is_here_, exchange.head.authorization, exchange.head.api_key);
  }

  // What only looks, or ends what runs, is let through.
  void limit_rate(const Exchange& exchange) {
    if (exchange.head.method != "POST") return;
    shared_.rate_limit.enter(shared_.keys.required() ? exchange.key_id : peer_, now());
  }

  std::shared_ptr<PendingReply> open_reply(const Exchange& exchange, bool close) {
    ReplyTerms terms;
    terms.request_id = exchange.id;
    terms.dialect = exchange.match.dialect;
    terms.head_only = exchange.head.method == "HEAD";
    terms.is_http_1_0 = exchange.head.is_http_1_0;
    terms.keep_alive = exchange.head.keep_alive && !close;
    terms.stream_buffer_limit_bytes = shared_.options.stream_buffer_limit_bytes;
    terms.draining = shared_.draining;
    return std::make_shared<PendingReply>(std::move(terms), [self = weak_from_this(), on = socket_.get_executor()] {
      asio::post(on, [self] {
        if (const auto session = self.lock()) session->wake();
      });
    });
  }

  void dispatch(const Exchange& exchange, HttpRequest request, const std::shared_ptr<PendingReply>& reply) {
    // The handler may outlive this connection, and even the listener's routes: it takes its own copy along.
    auto call = [handler = exchange.match.route->handler, dialect = exchange.match.dialect,
                 request = std::make_shared<HttpRequest>(std::move(request)),
                 handle = PendingReply::handle(reply)]() mutable {
      // Its client may have left while it was waiting for a thread.
      if (!handle->disconnected()) handle_request(handler, std::move(*request), handle, dialect);
      handle.reset();
    };
    if (exchange.match.route->at_once) return call();
    try {
      shared_.options.dispatch(std::move(call));
    } catch (const std::exception& error) {
      log_error(fmt::format("a request could not be dispatched: {}", error.what()), exchange.id);
    }
  }

  asio::awaitable<Sent> send(PendingReply& reply) {
    SteadyTime ping_time = now() + shared_.options.ping_after;
    SteadyTime probe_time = now() + shared_.options.probe_half_closed_after;
    for (;;) {
      if (gone_ || reply.overflowed()) break;
      const PendingReply::Output output = reply.take();
      if (!output.bytes.empty()) {
        const bool written = co_await write(output.bytes);
        if (!written) break;
        reply.sent(output.bytes.size());
      }
      if (output.finished) co_return output.keep_alive ? Sent::keep_alive : Sent::close;
      if (!output.bytes.empty()) {
        ping_time = now() + shared_.options.ping_after;
        continue;
      }
      co_await wait_for_wake(std::min(ping_time, probe_time));
      if (now() >= ping_time) {
        reply.ping();
        ping_time = now() + shared_.options.ping_after;
      }
      if (now() >= probe_time) {
        if (has_closed_its_side(socket_.native_handle())) reply.probe();
        probe_time = now() + shared_.options.probe_half_closed_after;
      }
    }
    co_return Sent::gone;
  }

  asio::awaitable<void> wait_for_wake(SteadyTime deadline) {
    if (!woken_) {
      signal_.expires_at(deadline);
      co_await signal_.async_wait(kAwait);
    }
    woken_ = false;
  }

  void wake() {
    woken_ = true;
    signal_.cancel();
    if (sending_ && sending_->overflowed()) {
      error_code ignored;
      socket_.cancel(ignored);
    }
  }

  // Notices a reset while nothing is read or written. A client that only closed its sending side is not gone.
  void watch() {
    socket_.async_wait(tcp::socket::wait_error, [self = shared_from_this()](const error_code& error) {
      if (error || self->gone_) return;
      pollfd state{self->socket_.native_handle(), 0, 0};
      if (::poll(&state, 1, 0) == 1 && (state.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0) {
        self->gone_ = true;
        self->wake();
      } else {
        self->watch();  // urgent data
      }
    });
  }

  asio::awaitable<Read> read_some(SteadyTime deadline) {
    interruption_.reset();
    arm(deadline);
    const auto [error, bytes] = co_await socket_.async_read_some(asio::buffer(chunk_), kAwait);
    disarm();
    input_.append(chunk_.data(), bytes);
    if (!error) co_return Read::data;
    if (interruption_) co_return *interruption_;
    if (error != asio::error::eof) gone_ = true;
    co_return Read::end;
  }

  asio::awaitable<bool> write(std::string_view bytes) {
    while (!bytes.empty()) {
      arm(now() + shared_.options.write_deadline);
      const auto [error, written] = co_await socket_.async_write_some(asio::buffer(bytes.data(), bytes.size()), kAwait);
      disarm();
      if (error) co_return false;
      bytes.remove_prefix(written);
    }
    co_return true;
  }

  // Reads what the client still sends after the last reply, since closing on unread bytes would reset the connection
  // and could take that reply away from it.
  asio::awaitable<void> linger() {
    error_code ignored;
    socket_.shutdown(tcp::socket::shutdown_send, ignored);
    const SteadyTime deadline = now() + shared_.options.linger;
    for (;;) {
      input_.clear();
      const Read read = co_await read_some(deadline);
      if (read != Read::data || now() >= deadline) co_return;
    }
  }

  // Ends the operation that is started next when its time is over.
  void arm(SteadyTime deadline) {
    const std::uint64_t number = ++armed_;
    deadline_.expires_at(deadline);
    deadline_.async_wait([self = shared_from_this(), number](const error_code& error) {
      if (error || number != self->armed_) return;
      error_code ignored;
      self->interruption_ = Read::late;
      self->socket_.cancel(ignored);
    });
  }

  void disarm() {
    ++armed_;
    deadline_.cancel();
  }

  void record(const Exchange& exchange, const PendingReply& reply) const {
    constexpr int kClientClosedRequest = 499;
    RequestRecord record;
    record.route = exchange.match.route ? std::string_view(exchange.match.route->pattern) : "-";
    record.status = reply.status() != 0 ? reply.status() : kClientClosedRequest;
    record.seconds = seconds_since(exchange.start);
    ReplyNotes notes = reply.notes();
    record.model = std::move(notes.model);
    record.error = notes.error;
    const std::string_view method = exchange.match.route ? std::string_view(exchange.head.method) : "-";
    log_info(fmt::format("{} {} {} {:.1f} ms {} bytes{}", method, record.route, record.status, record.seconds * 1000,
                         reply.sent_bytes(), gone_ ? ", client gone" : ""),
             exchange.id);
    if (shared_.options.observe) shared_.options.observe(record);
  }

  tcp::socket socket_;
  asio::steady_timer deadline_;  // of the read or write under way
  asio::steady_timer signal_;    // its end wakes the coroutine that sends
  ListenerShared& shared_;
  std::string input_;  // read, not used yet
  std::array<char, std::size_t{16} << 10> chunk_;
  PendingReply* sending_ = nullptr;
  std::uint64_t armed_ = 0;
  bool loopback_ = false;      // reached over a loopback address
  bool peer_is_here_ = false;  // by a peer on this machine
  std::string peer_;           // whom rates are limited for where there are no keys
  bool woken_ = false;
  bool awaits_head_ = false;          // nothing, or half a header, has come since the last reply
  std::optional<Read> interruption_;  // why the last operation was ended: late or draining
  bool gone_ = false;                 // the connection is of no use any more
};

Connection::Connection(tcp::socket socket, ListenerShared& shared)
    : session_(std::make_shared<Session>(std::move(socket), shared)) {}

void Connection::start(std::function<void()> closed) const {
  asio::co_spawn(
      session_->executor(), [session = session_] { return session->run(); },
      [session = session_, closed = std::move(closed)](const std::exception_ptr& failure) {
        try {
          if (failure) std::rethrow_exception(failure);
        } catch (const std::exception& error) {
          log_error(fmt::format("a connection failed: {}", error.what()));
          session->abort();
        }
        closed();
      });
}

void Connection::drain() const {
  asio::post(session_->executor(), [session = session_] { session->drain(); });
}

void Connection::abort() const {
  asio::post(session_->executor(), [session = session_] { session->abort(); });
}

}  // namespace cortex

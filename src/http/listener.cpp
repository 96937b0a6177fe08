#include "http/listener.h"

#include <fmt/core.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "http/connection.h"

namespace cortex {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr std::chrono::milliseconds kAcceptPause{100};  // after a failure

}  // namespace

struct Listener::State {
  State(Router router, ListenerOptions options)
      : shared(std::move(router), std::move(options)),
        context(shared.options.threads),
        accept_strand(asio::make_strand(context)),
        acceptor(accept_strand),
        pause(accept_strand),
        work(asio::make_work_guard(context)) {}

  void bind() {
    error_code error;
    const auto address = asio::ip::make_address(shared.options.address, error);
    const tcp::endpoint endpoint(address, shared.options.port);
    if (!error) acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error) {
      throw std::system_error(error.value(), std::system_category(),
                              fmt::format("can't listen on {} port {}", shared.options.address, shared.options.port));
    }
    port = acceptor.local_endpoint().port();
  }

  void start() {
    asio::co_spawn(accept_strand, accept(), asio::detached);
    for (int i = 0; i < shared.options.threads; ++i) threads.emplace_back([this] { run(); });
  }

  // What a handler throws ends that handler, not the thread.
  void run() {
    for (;;) {
      try {
        context.run();
        return;
      } catch (const std::exception& error) {
        log_error(fmt::format("the listener failed: {}", error.what()));
      }
    }
  }

  asio::awaitable<void> accept() {
    while (!stopping) {
      bool accepted = false;
      try {
        accepted = co_await accept_one();
      } catch (const std::exception& error) {
        log_error(fmt::format("a connection could not be accepted: {}", error.what()));
      }
      if (accepted || stopping) continue;
      pause.expires_after(kAcceptPause);
      co_await pause.async_wait(kAwait);
    }
  }

  asio::awaitable<bool> accept_one() {
    while (connections.size() >= shared.options.connection_limit && !stopping) {
      full = true;
      pause.expires_at(asio::steady_timer::time_point::max());
      co_await pause.async_wait(kAwait);
    }
    if (stopping) co_return false;
    auto [error, socket] = co_await acceptor.async_accept(asio::make_strand(context), kAwait);
    if (stopping) co_return false;
    if (error) {
      // Most likely out of descriptors: the backlog keeps the clients until some are free.
      log_warning(fmt::format("can't accept connections: {}", error.message()));
      co_return false;
    }
    open(std::move(socket));
    co_return true;
  }

  void open(tcp::socket socket) {
    const std::uint64_t number = ++opened;
    const Connection connection(std::move(socket), shared);
    connections.emplace(number, connection);
    connection.start([this, number] { asio::post(accept_strand, [this, number] { forget(number); }); });
  }

  void forget(std::uint64_t number) {
    connections.erase(number);
    if (std::exchange(full, false)) pause.cancel();
  }

  void drain() {
    for (const auto& [number, connection] : connections) connection.drain();
  }

  void abort_all() {
    error_code ignored;
    stopping = true;
    acceptor.close(ignored);
    pause.cancel();
    for (const auto& [number, connection] : connections) connection.abort();
  }

  ListenerShared shared;
  asio::io_context context;
  asio::strand<asio::io_context::executor_type> accept_strand;
  tcp::acceptor acceptor;
  asio::steady_timer pause;
  asio::executor_work_guard<asio::io_context::executor_type> work;
  std::vector<std::thread> threads;
  std::uint16_t port = 0;

  // Of the accepting strand, as are all functions from accept() on.
  std::unordered_map<std::uint64_t, Connection> connections;
  std::uint64_t opened = 0;
  bool stopping = false;
  bool full = false;
};

Listener::Listener(Router router, ListenerOptions options) {
  CORTEX_CHECK(options.dispatch && options.threads > 0 && options.connection_limit > 0 &&
               options.body_rate_bytes_per_s > 0);
  state_ = std::make_unique<State>(std::move(router), std::move(options));
  state_->bind();
  state_->start();
}

Listener::~Listener() { stop(); }

std::uint16_t Listener::port() const { return state_->port; }

void Listener::drain() {
  *state_->shared.draining = true;
  asio::post(state_->accept_strand, [state = state_.get()] { state->drain(); });
}

bool Listener::wait_until_idle(std::chrono::milliseconds timeout) {
  return state_->shared.traffic.wait_until_idle(timeout);
}

void Listener::stop() {
  if (state_->threads.empty()) return;
  asio::post(state_->accept_strand, [state = state_.get()] { state->abort_all(); });
  state_->work.reset();
  for (auto& thread : state_->threads) thread.join();
  state_->threads.clear();
}

}  // namespace cortex

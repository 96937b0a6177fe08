// One connection of the listener, from its first byte to its last: requests are read through the gate, dispatched and
// answered, one after the other, by a coroutine on a strand of its own. Owned by the listener's list and by that
// coroutine. Copies are the same connection; any thread.
#pragma once

#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <memory>
#include <utility>

#include "http/auth.h"
#include "http/listener.h"
#include "http/rate_limit.h"
#include "http/router.h"
#include "http/traffic.h"

namespace cortex {

// What a listener's connections share; outlives them.
struct ListenerShared {
  ListenerShared(Router the_router, ListenerOptions the_options)
      : router(std::move(the_router)),
        options(std::move(the_options)),
        keys(options.api_keys, options.admin_keys),
        rate_limit(options.rate_limit),
        traffic(options.body_bytes_limit) {}

  const Router router;
  const ListenerOptions options;
  const ApiKeys keys;
  RateLimit rate_limit;
  // Outlives the listener, for replies that come too late.
  const std::shared_ptr<std::atomic<bool>> draining = std::make_shared<std::atomic<bool>>(false);
  Traffic traffic;
};

class Connection {
 public:
  // `socket` runs its operations on the connection's strand.
  Connection(boost::asio::ip::tcp::socket socket, ListenerShared& shared);

  // Serves; calls `closed` when it is over, on the connection's strand.
  void start(std::function<void()> closed) const;
  // The listener drains: ends the connection if nothing, or half a header, has come since its last reply.
  void drain() const;
  // Ends the connection, whatever it is at.
  void abort() const;

 private:
  class Session;
  std::shared_ptr<Session> session_;
};

}  // namespace cortex

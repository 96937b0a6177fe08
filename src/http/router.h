// Which handler serves a path: the list of routes as data. Filled once at start, then read from any thread. A pattern
// is a path, or a path that ends in "{id}", which stands for all that is left of it (one byte at least; "/" too, since
// model names hold it); an exact path wins. GET routes answer HEAD as well.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "http/error_reply.h"
#include "http/exchange.h"

namespace cortex {

inline constexpr std::uint64_t kBodyLimitBytes = 8 << 20;

struct Route {
  std::string method;   // "GET", "POST" or "DELETE"
  std::string pattern;  // "/healthz", "/chat/{id}"
  HttpHandler handler;
  Dialect dialect = Dialect::native;  // of errors met before the handler is called
  bool open = false;                  // needs no API key
  bool open_on_loopback = false;      // needs none from this machine
  bool admin = false;                 // needs an admin key
  bool answers_while_draining = false;
  bool at_once = false;  // answers from memory without waiting: called on the listener's thread, ahead of every queue
  std::uint64_t body_limit_bytes = kBodyLimitBytes;
};

struct RouteMatch {
  const Route* route = nullptr;  // null: the path is unknown, or known by other methods only
  std::string id;                // what {id} stands for
  std::string allow;             // the path's methods as an Allow field lists them; empty: the path is unknown
  Dialect dialect = Dialect::native;
  bool open = false;  // the path's, whatever the method
  bool open_on_loopback = false;
};

class Router {
 public:
  // Throws CheckFailure for a pattern that is not of the above form, or twice the same method and pattern.
  explicit Router(std::vector<Route> routes);

  // `path` is decoded and without its query.
  RouteMatch find(std::string_view method, std::string_view path) const;

 private:
  std::vector<Route> routes_;
};

// Throws Error not_found, or method_not_allowed unless the method is OPTIONS, which the path itself answers.
void check_route(const RouteMatch& match, std::string_view method, std::string_view path);

}  // namespace cortex

#include "http/router.h"

#include <fmt/core.h>

#include <utility>

#include "base/error.h"

namespace cortex {
namespace {

constexpr std::string_view kTail = "{id}";

std::string_view before_tail(std::string_view pattern) { return pattern.substr(0, pattern.size() - kTail.size()); }

bool matches(std::string_view pattern, std::string_view path) {
  if (!pattern.ends_with(kTail)) return pattern == path;
  const std::string_view prefix = before_tail(pattern);
  return path.size() > prefix.size() && path.starts_with(prefix);
}

void append_method(std::string& allow, std::string_view method) {
  if (!allow.empty()) allow += ", ";
  allow += method;
}

}  // namespace

Router::Router(std::vector<Route> routes) : routes_(std::move(routes)) {
  for (std::size_t i = 0; i < routes_.size(); ++i) {
    const Route& route = routes_[i];
    CORTEX_CHECK(route.method == "GET" || route.method == "POST" || route.method == "DELETE");
    CORTEX_CHECK(route.pattern.starts_with('/') && route.handler);
    const std::size_t brace = route.pattern.find('{');
    CORTEX_CHECK(brace == std::string::npos || route.pattern.substr(brace) == kTail);
    for (std::size_t j = 0; j < i; ++j) {
      CORTEX_CHECK(routes_[j].method != route.method || routes_[j].pattern != route.pattern);
    }
  }
}

RouteMatch Router::find(std::string_view method, std::string_view path) const {
  // The pattern whose routes answer for this path: the exact one if there is one, else the longest.
  std::string_view pattern;
  for (const Route& route : routes_) {
    if (!matches(route.pattern, path)) continue;
    if (route.pattern == path || (pattern != path && route.pattern.size() > pattern.size())) pattern = route.pattern;
  }

  RouteMatch match;
  if (pattern.empty()) {
    match.dialect = path.starts_with("/v1/") ? Dialect::openai : Dialect::native;
    return match;
  }
  if (pattern.ends_with(kTail)) match.id = path.substr(before_tail(pattern).size());
  for (const Route& route : routes_) {
    if (route.pattern != pattern) continue;
    append_method(match.allow, route.method);
    if (route.method == "GET") append_method(match.allow, "HEAD");
    match.dialect = route.dialect;
    match.open = match.open || route.open;
    match.open_on_loopback = match.open_on_loopback || route.open_on_loopback;
    if (method == route.method || (method == "HEAD" && route.method == "GET")) match.route = &route;
  }
  append_method(match.allow, "OPTIONS");
  return match;
}

void check_route(const RouteMatch& match, std::string_view method, std::string_view path) {
  if (match.allow.empty()) throw Error(ErrorCode::not_found, fmt::format("there is no route {}", excerpt(path)));
  if (!match.route && method != "OPTIONS") {
    throw Error(ErrorCode::method_not_allowed,
                fmt::format("the route does not know the method {}; it knows {}", excerpt(method), match.allow));
  }
}

}  // namespace cortex

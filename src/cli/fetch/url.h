// An http or https address, and who may be told a secret. Parsed by libcurl, so that what is judged is what is
// connected to. Plain values; any thread.
#pragma once

#include <string>
#include <string_view>

namespace cortex {

struct Url {
  std::string text;    // whole and normalised
  std::string scheme;  // "http" or "https"
  std::string host;    // lower case; an IPv6 address in brackets
  int port = 0;

  bool is_loopback() const;
};

// Throws Error invalid_value for another scheme, a user or password in it, or what is no address at all.
Url parse_url(std::string_view text);

// Where a redirect from `base` leads; `location` may be relative. Throws as parse_url, and for https down to http.
Url follow_redirect(const Url& base, std::string_view location);

// The address of `path`, which begins with "/", below that of `base`. Throws Error invalid_value for a base with a
// query or fragment.
Url address_below(const Url& base, std::string_view path);

// Whether a numeric address, or "localhost", is this machine's own. A name that looks like one is not.
bool is_loopback_host(const std::string& host);

// The same scheme, host and port.
bool same_origin(const Url& a, const Url& b);

// Whether a secret that is meant for `home` may go to `url`: to that very origin, encrypted or within this machine.
bool may_carry_secret(const Url& home, const Url& url);

// `text` as one segment or more of a path: all but letters, digits and "-._~/" are percent-encoded.
std::string percent_encoded(std::string_view text);

}  // namespace cortex

#include "cli/fetch/url.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <fmt/core.h>

#include <cctype>
#include <memory>

#include "base/error.h"
#include "base/excerpt.h"

namespace cortex {
namespace {

using Handle = std::unique_ptr<CURLU, decltype(&curl_url_cleanup)>;

Handle new_handle() {
  Handle handle(curl_url(), curl_url_cleanup);
  if (!handle) throw std::bad_alloc();
  return handle;
}

[[noreturn]] void fail(std::string_view text, std::string_view what) {
  throw Error(ErrorCode::invalid_value, fmt::format("{}: {}", excerpt(text), what));
}

// An address as it may be repeated: its query may be a signature.
std::string origin_of(const Url& url) { return fmt::format("{}://{}:{}", url.scheme, url.host, url.port); }

void set(const Handle& handle, std::string_view text) {
  const CURLUcode code = curl_url_set(handle.get(), CURLUPART_URL, std::string(text).c_str(), CURLU_DISALLOW_USER);
  if (code == CURLUE_OK) return;
  // What is before an "@" may be a password.
  const std::string_view shown = text.substr(text.rfind('@') + 1);
  if (code == CURLUE_USER_NOT_ALLOWED) fail(shown, "an address with a user or password is not taken");
  const bool bare = text.find("://") == std::string_view::npos;
  fail(shown, fmt::format("is no address: {}{}", curl_url_strerror(code),
                          bare ? "; one begins with http:// or https://" : ""));
}

std::string part(const Handle& handle, CURLUPart which, unsigned flags = 0) {
  char* value = nullptr;
  if (curl_url_get(handle.get(), which, &value, flags) != CURLUE_OK) return {};
  const std::unique_ptr<char, decltype(&curl_free)> owner(value, curl_free);
  return value;
}

Url read(const Handle& handle) {
  Url url;
  url.text = part(handle, CURLUPART_URL);
  url.scheme = part(handle, CURLUPART_SCHEME);
  url.host = part(handle, CURLUPART_HOST);
  for (char& c : url.host) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (url.scheme != "http" && url.scheme != "https") fail(url.scheme + "://" + url.host, "http or https is wanted");
  url.port = std::stoi(part(handle, CURLUPART_PORT, CURLU_DEFAULT_PORT));
  return url;
}

}  // namespace

bool is_loopback_host(const std::string& host) {
  in_addr address{};
  const bool numeric = inet_pton(AF_INET, host.c_str(), &address) == 1;
  return host == "localhost" || host == "::1" || (numeric && host.starts_with("127."));
}

bool Url::is_loopback() const { return host == "[::1]" || is_loopback_host(host); }

Url parse_url(std::string_view text) {
  const Handle handle = new_handle();
  set(handle, text);
  return read(handle);
}

Url follow_redirect(const Url& base, std::string_view location) {
  const Handle handle = new_handle();
  set(handle, base.text);
  set(handle, location);
  Url url = read(handle);
  if (base.scheme == "https" && url.scheme != "https") {
    fail(origin_of(url), fmt::format("a redirect from {} to an unencrypted address is not followed", base.host));
  }
  return url;
}

Url address_below(const Url& base, std::string_view path) {
  std::string text = base.text;
  if (text.find_first_of("?#") != std::string::npos) {
    fail(origin_of(base), "an address without query or fragment is wanted");
  }
  while (text.ends_with('/')) text.pop_back();
  return parse_url(text.append(path));
}

bool same_origin(const Url& a, const Url& b) { return a.scheme == b.scheme && a.host == b.host && a.port == b.port; }

bool may_carry_secret(const Url& home, const Url& url) {
  return same_origin(home, url) && (url.scheme == "https" || url.is_loopback());
}

std::string percent_encoded(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain =
        byte < 0x80 && (std::isalnum(byte) != 0 || std::string_view("-._~/").find(c) != std::string::npos);
    if (plain) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", byte);
    }
  }
  return out;
}

}  // namespace cortex

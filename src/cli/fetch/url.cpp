#include "cli/fetch/url.h"

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

void set(const Handle& handle, std::string_view text) {
  const CURLUcode code = curl_url_set(handle.get(), CURLUPART_URL, std::string(text).c_str(), CURLU_DISALLOW_USER);
  if (code == CURLUE_USER_NOT_ALLOWED) fail(text.substr(0, text.find(':')), "an address with a user is not taken");
  if (code != CURLUE_OK) fail(text, fmt::format("is no address: {}", curl_url_strerror(code)));
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
  if (url.scheme != "http" && url.scheme != "https") fail(url.text, "http or https is wanted");
  url.port = std::stoi(part(handle, CURLUPART_PORT, CURLU_DEFAULT_PORT));
  return url;
}

}  // namespace

bool Url::is_loopback() const { return host == "localhost" || host == "[::1]" || host.starts_with("127."); }

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
    fail(url.text, fmt::format("a redirect from {} to an unencrypted address is not followed", base.host));
  }
  return url;
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

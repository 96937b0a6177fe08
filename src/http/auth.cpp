#include "http/auth.h"

#include <fmt/core.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>

#include "base/error.h"

namespace cortex {
namespace {

std::array<unsigned char, 32> digest_of(std::string_view key) {
  std::array<unsigned char, 32> digest;
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), digest.data());
  return digest;
}

std::string_view bearer_key(std::string_view authorization) {
  constexpr std::string_view kScheme = "bearer ";
  const auto same = [](char c, char wanted) { return c == wanted || (wanted != ' ' && c == wanted - 'a' + 'A'); };
  if (authorization.size() < kScheme.size() ||
      !std::equal(kScheme.begin(), kScheme.end(), authorization.begin(), [&](char w, char c) { return same(c, w); })) {
    return {};
  }
  authorization.remove_prefix(kScheme.size());
  authorization.remove_prefix(std::min(authorization.find_first_not_of(' '), authorization.size()));
  return authorization;
}

}  // namespace

ApiKeys::ApiKeys(std::span<const std::string> keys, std::span<const std::string> admin_keys) {
  const auto add = [&](const std::string& key, bool admin) {
    CORTEX_CHECK(!key.empty());
    keys_.push_back({digest_of(key), admin});
  };
  for (const auto& key : keys) add(key, false);
  for (const auto& key : admin_keys) add(key, true);
}

// Of a key that is in both lists, the admin.
const ApiKeys::Key* ApiKeys::find(std::string_view key) const {
  const auto wanted = digest_of(key);
  const Key* found = nullptr;
  for (const Key& known : keys_) {
    if (CRYPTO_memcmp(known.digest.data(), wanted.data(), wanted.size()) == 0) found = &known;
  }
  return found;
}

std::string ApiKeys::check(Access access, bool on_this_machine, std::string_view authorization,
                           std::string_view api_key) const {
  if (!required()) {
    if (access == Access::admin && !on_this_machine) {
      throw Error(ErrorCode::insufficient_scope,
                  "without an admin key this is possible from the server's own machine only, and it has none");
    }
    return {};
  }
  const Key* by_bearer = find(bearer_key(authorization));
  const Key* by_field = find(api_key);
  const Key* found = by_bearer ? by_bearer : by_field;
  if (!found && access == Access::anybody) return {};
  if (!found) {
    const bool given = !authorization.empty() || !api_key.empty();
    throw Error(ErrorCode::invalid_api_key,
                given ? "the API key is not known here" : "an API key is wanted: Authorization: Bearer KEY");
  }
  if (access == Access::admin && !found->admin) {
    throw Error(ErrorCode::insufficient_scope, "this API key may not do that; an admin key is wanted");
  }
  std::string id;
  for (std::size_t i = 0; i < 8; ++i) id += fmt::format("{:02x}", found->digest[i]);
  return id;
}

}  // namespace cortex

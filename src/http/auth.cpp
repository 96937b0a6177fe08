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

ApiKeys::ApiKeys(std::span<const std::string> keys) {
  for (const auto& key : keys) {
    CORTEX_CHECK(!key.empty());
    keys_.push_back(digest_of(key));
  }
}

const ApiKeys::Digest* ApiKeys::find(std::string_view key) const {
  const Digest wanted = digest_of(key);
  const Digest* found = nullptr;
  for (const Digest& digest : keys_) {
    if (CRYPTO_memcmp(digest.data(), wanted.data(), wanted.size()) == 0) found = &digest;
  }
  return found;
}

std::optional<std::string> ApiKeys::identify(std::string_view authorization, std::string_view api_key) const {
  const Digest* by_bearer = find(bearer_key(authorization));
  const Digest* by_field = find(api_key);
  const Digest* found = by_bearer ? by_bearer : by_field;
  if (!found) return std::nullopt;
  std::string id;
  for (std::size_t i = 0; i < 8; ++i) id += fmt::format("{:02x}", (*found)[i]);
  return id;
}

std::string ApiKeys::check(std::string_view authorization, std::string_view api_key) const {
  auto id = identify(authorization, api_key);
  if (id) return *std::move(id);
  const bool given = !authorization.empty() || !api_key.empty();
  throw Error(ErrorCode::invalid_api_key,
              given ? "the API key is not known here" : "an API key is wanted: Authorization: Bearer KEY");
}

}  // namespace cortex

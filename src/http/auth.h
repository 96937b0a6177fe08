// Who may ask: the configured API keys. Immutable after start; any thread. Keys are kept and compared as SHA-256
// digests, in constant time, every one each time, so that neither their bytes nor their order can be timed.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cortex {

class ApiKeys {
 public:
  // Without keys everybody may ask.
  explicit ApiKeys(std::span<const std::string> keys = {});

  bool required() const { return !keys_.empty(); }

  // `authorization` and `api_key` are the values of Authorization ("Bearer KEY", the scheme in any case) and x-api-key;
  // one right key is enough. The key's id is 16 hexadecimal digits that stay the same over restarts.
  std::optional<std::string> identify(std::string_view authorization, std::string_view api_key) const;
  // The same, or Error invalid_api_key.
  std::string check(std::string_view authorization, std::string_view api_key) const;

 private:
  using Digest = std::array<unsigned char, 32>;
  const Digest* find(std::string_view key) const;

  std::vector<Digest> keys_;
};

}  // namespace cortex

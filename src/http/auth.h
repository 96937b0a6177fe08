// Who may ask: the configured API keys. Immutable after start; any thread. Keys are kept and compared as SHA-256
// digests, in constant time, every one each time, so that neither their bytes nor their order can be timed. An admin
// key is a key that also may do what changes the server for everybody.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cortex {

// What a route asks of its callers.
enum class Access { anybody, key, admin };

class ApiKeys {
 public:
  // Without keys, admin keys included, everybody may ask, and whoever is on this machine is an admin.
  explicit ApiKeys(std::span<const std::string> keys = {}, std::span<const std::string> admin_keys = {});

  bool required() const { return !keys_.empty(); }

  // `authorization` and `api_key` are the values of Authorization ("Bearer KEY", the scheme in any case) and x-api-key;
  // one right key is enough. The key's id is 16 hexadecimal digits that stay the same over restarts.
  // Empty where anybody may ask and there is no right one, and where there are no keys. `on_this_machine`: the caller
  // is. Throws Error invalid_api_key or insufficient_scope.
  std::string check(Access access, bool on_this_machine, std::string_view authorization,
                    std::string_view api_key) const;

 private:
  struct Key {
    std::array<unsigned char, 32> digest;
    bool admin = false;
  };
  const Key* find(std::string_view key) const;

  std::vector<Key> keys_;  // admin keys last
};

}  // namespace cortex

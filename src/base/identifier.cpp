#include "base/identifier.h"

#include <random>

namespace cortex {

std::string make_identifier(std::string_view prefix) {
  constexpr std::string_view kDigits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  constexpr int kLength = 24;
  // Reads the system's generator at every call, so that no state is shared between threads or processes.
  std::random_device device;
  std::uniform_int_distribution<std::size_t> digit(0, kDigits.size() - 1);
  std::string identifier(prefix);
  for (int i = 0; i < kLength; ++i) identifier.push_back(kDigits[digit(device)]);
  return identifier;
}

}  // namespace cortex

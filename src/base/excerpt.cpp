#include "base/excerpt.h"

namespace cortex {
namespace {

constexpr std::size_t kLimitBytes = 64;

}  // namespace

std::string excerpt(std::string_view input) {
  if (input.size() <= kLimitBytes) return '"' + std::string(input) + '"';
  std::size_t end = kLimitBytes;
  while (end > 0 && (static_cast<unsigned char>(input[end]) & 0xc0) == 0x80) --end;
  return '"' + std::string(input.substr(0, end)) + "...\"";
}

}  // namespace cortex

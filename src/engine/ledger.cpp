#include "engine/ledger.h"

namespace cortex {

bool Ledger::reserve(std::size_t owner, std::uint64_t bytes) {
  const auto room = room_bytes(owner);
  if (room && bytes > *room) return false;
  bytes_[owner] = bytes;
  return true;
}

std::uint64_t Ledger::reserved_bytes() const {
  std::uint64_t sum = 0;
  for (const auto& [owner, bytes] : bytes_) sum += bytes;
  return sum;
}

std::uint64_t Ledger::reserved_bytes(std::size_t owner) const {
  const auto it = bytes_.find(owner);
  return it == bytes_.end() ? 0 : it->second;
}

std::optional<std::uint64_t> Ledger::room_bytes(std::size_t owner) const {
  if (!limit_bytes_) return std::nullopt;
  return *limit_bytes_ - (reserved_bytes() - reserved_bytes(owner));
}

}  // namespace cortex

// Who has how much of the memory that all models together may have: a reservation comes before any allocation, so the
// sum never passes the limit. Pure bookkeeping of bytes; owned by the engine, its thread only.
//
// Invariant: reserved_bytes() <= the limit, where there is one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>

namespace cortex {

class Ledger {
 public:
  // Without a limit everything fits and is counted all the same.
  explicit Ledger(std::optional<std::uint64_t> limit_bytes) : limit_bytes_(limit_bytes) {}

  // From now on the owner has so many bytes, in place of what it had. False, and nothing is changed, when that is more
  // than room_bytes(owner).
  bool reserve(std::size_t owner, std::uint64_t bytes);
  void release(std::size_t owner) { bytes_.erase(owner); }

  std::optional<std::uint64_t> limit_bytes() const { return limit_bytes_; }
  std::uint64_t reserved_bytes() const;
  std::uint64_t reserved_bytes(std::size_t owner) const;
  // What the owner may have in all, beside the others; nothing: as much as it likes.
  std::optional<std::uint64_t> room_bytes(std::size_t owner) const;

 private:
  const std::optional<std::uint64_t> limit_bytes_;
  std::map<std::size_t, std::uint64_t> bytes_;  // by owner
};

}  // namespace cortex

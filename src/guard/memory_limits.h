// How much memory this server may have and how near the machine is to having none left: plain arithmetic over what the
// sensors of each system read. Pure.
#pragma once

#include <cstdint>
#include <optional>

namespace cortex {

struct MemoryLimits {
  std::optional<std::uint64_t> budget_bytes;   // of weights, KV and scratch, which the engine keeps to by itself
  std::optional<std::uint64_t> reserve_bytes;  // of the machine's RAM, for others; absent: by its size
};

// 12 GiB of 64 GiB and more, 8 of 32, 6 of 16, else 4; never more than a quarter.
std::uint64_t default_reserve_bytes(std::uint64_t ram_bytes);

// What a process may have whose models have such a budget: a quarter more than it, so that a budget which is planned to
// its last byte is no pressure, and 512 MiB for tokenizers, connections and code.
std::uint64_t ceiling_for_budget(std::uint64_t budget_bytes);

// The other way round: the budget that a ceiling has room for. Of a ceiling under 2 GiB a quarter is for everything
// that is no model.
std::uint64_t budget_for_ceiling(std::uint64_t ceiling_bytes);

// The reserve is there to be used by others. That they have used up most of it is pressure: none while twice the
// reserve is available, 0.80 (level 1) at 0.4 of the reserve, 0.95 (level 3) at a tenth of it.
double scarcity_pressure(std::uint64_t available_bytes, std::uint64_t reserve_bytes);

}  // namespace cortex

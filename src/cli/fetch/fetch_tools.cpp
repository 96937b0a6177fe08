#include "cli/fetch/fetch_tools.h"

#include <fmt/core.h>

#include <system_error>

#include "base/error.h"

namespace cortex {

void require_room(const std::filesystem::path& folder, std::uint64_t bytes) {
  std::error_code error;
  std::filesystem::path there = std::filesystem::absolute(folder, error);
  while (!std::filesystem::exists(there, error) && there.has_relative_path()) there = there.parent_path();
  const auto space = std::filesystem::space(there, error);
  if (error || space.available >= bytes) return;
  throw Error(ErrorCode::weights_io_error,
              fmt::format("{}: {} are needed, {} are free; make room, or choose another place", there.string(),
                          format_bytes(bytes), format_bytes(space.available)));
}

}  // namespace cortex

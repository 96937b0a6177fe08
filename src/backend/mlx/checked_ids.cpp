#include "backend/mlx/checked_ids.h"

#include <fmt/core.h>

#include "base/error.h"

namespace cortex {
namespace {

std::span<const std::int32_t> checked(std::span<const std::int32_t> ids, std::int64_t bound) {
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= bound) throw CheckFailure(fmt::format("index {} is not in 0..{}", id, bound - 1));
  }
  return ids;
}

}  // namespace

CheckedIds::CheckedIds(std::span<const std::int32_t> ids, std::int64_t bound)
    : bound_(bound), array_(checked(ids, bound).data(), mx::Shape{static_cast<int>(ids.size())}, mx::int32) {}

mx::array take(const mx::array& from, const CheckedIds& ids, int axis) {
  CORTEX_CHECK(ids.bound_ <= from.shape(axis));
  return mx::take(from, ids.array_, axis);
}

mx::array put(const mx::array& into, const CheckedIds& ids, const mx::array& updates, int axis) {
  CORTEX_CHECK(ids.bound_ <= into.shape(axis));
  return mx::scatter(into, ids.array_, updates, axis);
}

}  // namespace cortex

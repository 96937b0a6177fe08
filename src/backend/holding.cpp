#include "backend/holding.h"

#include <algorithm>

#include "base/error.h"

namespace cortex {

std::string_view name_of(WeightPrecision precision) {
  switch (precision) {
    case WeightPrecision::as_given:
      return "as given";
    case WeightPrecision::bits_8:
      return "8-bit";
    case WeightPrecision::bits_4:
      return "4-bit";
  }
  CORTEX_CHECK(false);
}

bool is_streamed(int layer, int layers, int resident_layers) {
  const std::int64_t streamed = std::max(0, layers - resident_layers);
  return (layer + 1) * streamed / layers > layer * streamed / layers;
}

std::uint64_t DecoderNeeds::weight_bytes(int resident_layers) const {
  std::uint64_t bytes = fixed_bytes;
  std::uint64_t largest = 0, streamed = 0;
  for (int layer = 0; layer < layers(); ++layer) {
    const std::uint64_t of_layer = layer_bytes[static_cast<std::size_t>(layer)];
    if (is_streamed(layer, layers(), resident_layers)) {
      largest = std::max(largest, of_layer);
      ++streamed;
    } else {
      bytes += of_layer;
    }
  }
  return bytes + std::min<std::uint64_t>(streamed, kStreamedAtOnce) * largest;
}

}  // namespace cortex

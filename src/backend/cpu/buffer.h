// Room that is filled anew again and again. Whoever owns the vector.
#pragma once

#include <cstddef>
#include <vector>

namespace cortex {

// At least `count` elements, whose content is lost where there were fewer: then no more memory than that, and the old
// is given back before the new is taken.
template <typename Element>
void make_room(std::vector<Element>& buffer, std::size_t count) {
  if (buffer.size() >= count) return;
  buffer = {};
  buffer.resize(count);
}

}  // namespace cortex

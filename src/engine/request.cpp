#include "engine/request.h"

namespace cortex {

std::string_view name_of(CacheMiss miss) {
  switch (miss) {
    case CacheMiss::first_use:
      return "first_use";
    case CacheMiss::diverged:
      return "diverged";
    case CacheMiss::evicted:
      return "evicted";
    case CacheMiss::other_salt:
      return "other_salt";
    case CacheMiss::not_yet_written:
      return "not_yet_written";
    case CacheMiss::cheaper_to_compute:
      return "cheaper_to_compute";
  }
  CORTEX_CHECK(false);
  return {};
}

}  // namespace cortex

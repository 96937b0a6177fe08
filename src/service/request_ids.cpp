#include "service/request_ids.h"

#include <atomic>

namespace cortex {

RequestId next_request_id() {
  static std::atomic<RequestId> last{0};
  return ++last;
}

}  // namespace cortex

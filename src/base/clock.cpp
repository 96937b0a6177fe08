#include "base/clock.h"

namespace cortex {
namespace {

class SystemClock : public Clock {
 public:
  std::chrono::steady_clock::time_point steady_now() const override { return std::chrono::steady_clock::now(); }
  std::chrono::system_clock::time_point wall_now() const override { return std::chrono::system_clock::now(); }
};

}  // namespace

const Clock& system_clock() {
  static const SystemClock instance;
  return instance;
}

}  // namespace cortex

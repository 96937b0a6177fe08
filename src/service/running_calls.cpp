#include "service/running_calls.h"

#include <utility>

namespace cortex {

void RunningCalls::add(const std::string& id, const std::string& owner, std::function<void()> cancel) {
  std::lock_guard lock(mutex_);
  running_[id] = {owner, std::move(cancel)};
}

void RunningCalls::remove(const std::string& id) {
  std::function<void()> last;  // what it holds is let go outside of the lock
  std::lock_guard lock(mutex_);
  if (const auto node = running_.extract(id)) last = std::move(node.mapped().cancel);
}

bool RunningCalls::cancel(const std::string& id, const std::string& owner) {
  std::function<void()> cancel;
  {
    std::lock_guard lock(mutex_);
    const auto found = running_.find(id);
    if (found == running_.end() || found->second.owner != owner) return false;
    cancel = found->second.cancel;
  }
  cancel();
  return true;
}

}  // namespace cortex

// The calls that are being answered, by the ids that their replies tell: what a cancel looks up. Owned by a service;
// any thread.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <unordered_map>

namespace cortex {

class RunningCalls {
 public:
  // `cancel` is called at most while the call runs; it returns at once and does not come back here.
  void add(const std::string& id, const std::string& owner, std::function<void()> cancel);
  void remove(const std::string& id);

  // False when no such call of this owner runs.
  bool cancel(const std::string& id, const std::string& owner);

 private:
  struct Running {
    std::string owner;
    std::function<void()> cancel;
  };
  std::mutex mutex_;
  std::unordered_map<std::string, Running> running_;
};

}  // namespace cortex

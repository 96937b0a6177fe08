// Keeps two processes from fetching the same file at once: a file that is locked as the hub's own tools lock theirs
// (flock), so that they wait for one another too. One owner; one thread.
#pragma once

#include <filesystem>
#include <functional>

#include "base/descriptor.h"

namespace cortex {

class FetchLock {
 public:
  // Makes the file and waits for its lock; `on_wait` is called once if another holds it. Throws Interrupted, and Error
  // invalid_path where the file can't be made.
  FetchLock(const std::filesystem::path& path, const std::function<void()>& on_wait);

 private:
  Descriptor descriptor_;  // the lock goes when it is closed
};

}  // namespace cortex

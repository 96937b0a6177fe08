#include "cli/fetch/fetch_lock.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>

#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>

#include "base/error.h"
#include "cli/interrupt.h"

namespace cortex {

FetchLock::FetchLock(const std::filesystem::path& path, const std::function<void()>& on_wait) {
  constexpr auto kLook = std::chrono::milliseconds(100);
  std::error_code unmade;
  std::filesystem::create_directories(path.parent_path(), unmade);
  if (unmade) {
    throw Error(ErrorCode::invalid_path,
                fmt::format("{}: can't be made: {}", path.parent_path().string(), unmade.message()));
  }
  descriptor_ = Descriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  const auto fail = [&] {
    throw Error(ErrorCode::invalid_path,
                fmt::format("{}: can't be locked: {}", path.string(), std::generic_category().message(errno)));
  };
  if (descriptor_.get() < 0) fail();
  bool told = false;
  while (::flock(descriptor_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) fail();
    if (!told) on_wait();
    told = true;
    InterruptWatch::check();
    std::this_thread::sleep_for(kLook);
  }
}

}  // namespace cortex

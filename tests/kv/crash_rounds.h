// A process that keeps blocks on disk and is killed, again and again: how the tests and kv_soak show that a crash loses
// nothing but the last blocks. What the process had seen written it tells its parent, whose log it survives in. One
// thread, which must be the only one of its process.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "kv/disk_store.h"
#include "kv/stored_runs.h"

namespace cortex {

// How a round ends.
struct Death {
  std::string failpoint;  // killed at the hit-th time of it; empty: at some time
  int hit = 1;
  std::chrono::microseconds after{0};   // after the first write, where there is no failpoint
  std::chrono::microseconds grace{-1};  // from SIGTERM on, at `after`; negative: none
};

class CrashRounds {
 public:
  // Sequences of the size 1 to 40 blocks, in a folder that has room for some dozens.
  explicit CrashRounds(std::filesystem::path directory) : directory_(std::move(directory)) {}

  static constexpr std::uint64_t kLimitBytes = 640 << 10;
  // As many sequences as were written last are there in any case: 3 files each, and they go last.
  static constexpr std::size_t kKept = 10;

  // True when the process was killed, false when it came to its end.
  bool run(const Death& death) {
    int pipe[2];
    if (::pipe2(pipe, O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
    const pid_t child = ::fork();
    if (child < 0) throw std::runtime_error("no process");
    if (child == 0) live(death, pipe[1]);
    ::close(pipe[1]);
    listen(pipe[0], child, death);
    ::close(pipe[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    if (!WIFSIGNALED(status) && WEXITSTATUS(status) != 0) throw std::runtime_error("the store has thrown");
    if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL) throw std::runtime_error("the store has crashed by itself");
    next_ += kSequencesARound;
    check();
    return WIFSIGNALED(status);
  }

  std::size_t confirmed() const { return written_.size(); }
  std::size_t blocks_read() const { return blocks_read_; }

 private:
  static constexpr int kSequencesARound = 60;

  static TestSequence sequence(int number) { return {1 + number * 7 % 40, number}; }

  DiskStoreOptions options() const {
    DiskStoreOptions options;
    options.directory = directory_;
    options.limit_bytes = kLimitBytes;
    return options;
  }

  // The child.
  [[noreturn]] void live(const Death& death, int log) const {
    static std::atomic<bool> terminated;
    terminated = false;
    struct sigaction action{};
    action.sa_handler = [](int) { terminated = true; };
    ::sigaction(SIGTERM, &action, nullptr);
    DiskStoreOptions options = this->options();
    options.failpoint = [&, hits = 0](std::string_view point) mutable {
      if (point == death.failpoint && ++hits == death.hit) ::kill(::getpid(), SIGKILL);
    };
    try {
      DiskStore store(real_file_system(), system_clock(), options);
      scanned(store);
      for (int number = next_; number < next_ + kSequencesARound && !terminated; ++number) {
        const TestSequence written = sequence(number);
        store_all(store, written);
        // Some are seen through, some are left to the background.
        if (number % 3 == 0) continue;
        if (!comes_true(
                [&] { return store.available(written.root, written.chain, 0) == written.blocks() || terminated; })) {
          ::_exit(3);
        }
        if (!terminated && ::write(log, &number, sizeof number) != sizeof number) ::_exit(4);
      }
    } catch (...) {
      ::_exit(5);
    }
    ::_exit(0);
  }

  void listen(int log, pid_t child, const Death& death) {
    int number = 0;
    bool first = true;
    while (::read(log, &number, sizeof number) == sizeof number) {
      written_.push_back(number);
      if (!death.failpoint.empty() || !std::exchange(first, false)) continue;
      std::this_thread::sleep_for(death.after);
      if (death.grace.count() >= 0) {
        ::kill(child, SIGTERM);
        std::this_thread::sleep_for(death.grace);
      }
      ::kill(child, SIGKILL);
    }
  }

  void check() {
    DiskStore store(real_file_system(), system_clock(), options());
    if (!scanned(store)) throw std::runtime_error("it did not start: " + store.status().message);
    if (store.status().state != "ok") throw std::runtime_error("it is not well: " + store.status().message);
    if (bytes_in(directory_) > kLimitBytes) throw std::runtime_error("it is past its quota");
    if (store.status().bytes < bytes_in(directory_)) throw std::runtime_error("it does not know what it holds");
    for (int number = std::max(0, next_ - 200); number < next_; ++number) {
      blocks_read_ += static_cast<std::size_t>(read_back(store, sequence(number)));  // throws on wrong bytes
    }
    for (std::size_t i = written_.size() - std::min(written_.size(), kKept); i < written_.size(); ++i) {
      const TestSequence last = sequence(written_[i]);
      if (read_back(store, last) != last.blocks()) throw std::runtime_error("blocks that were written are lost");
    }
  }

  const std::filesystem::path directory_;
  int next_ = 0;              // number of the next round's first sequence
  std::vector<int> written_;  // the log
  std::size_t blocks_read_ = 0;
};

}  // namespace cortex

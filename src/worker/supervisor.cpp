#include "worker/supervisor.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>
#include <system_error>
#include <utility>

#ifdef __APPLE__
#include <crt_externs.h>
#include <mach-o/dyld.h>
#else
extern char** environ;
#endif

#include "base/error.h"
#include "base/log.h"
#include "worker/worker_main.h"

namespace cortex {
namespace {

char** process_environment() {
#ifdef __APPLE__
  return *_NSGetEnviron();
#else
  return environ;
#endif
}

std::string own_executable() {
#ifdef __APPLE__
  std::uint32_t size = 0;
  _NSGetExecutablePath(nullptr, &size);
  std::string path(size, '\0');
  _NSGetExecutablePath(path.data(), &size);
  return path.c_str();
#else
  return "/proc/self/exe";  // the very file that runs, even after an upgrade has replaced it
#endif
}

[[noreturn]] void fail(int error, const char* what) { throw std::system_error(error, std::generic_category(), what); }

struct SocketPair {
  Descriptor ours, theirs;
};

SocketPair make_socket_pair() {
  int ends[2];
#ifdef SOCK_CLOEXEC
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) fail(errno, "socketpair");
#else
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) fail(errno, "socketpair");
  for (const int end : ends) ::fcntl(end, F_SETFD, FD_CLOEXEC);
#endif
  return {Descriptor(ends[0]), Descriptor(ends[1])};
}

struct SpawnSettings {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;

  explicit SpawnSettings(int descriptor) {
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
    // Also where both numbers are the same, this clears close-on-exec.
    ::posix_spawn_file_actions_adddup2(&actions, descriptor, kWorkerDescriptor);
#ifdef __GLIBC__
    ::posix_spawn_file_actions_addclosefrom_np(&actions, kWorkerDescriptor + 1);
#endif
    sigset_t blocked, all;
    sigemptyset(&blocked);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&blocked, signal);
    sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes, &blocked);
    ::posix_spawnattr_setsigdefault(&attributes, &all);
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
#ifdef POSIX_SPAWN_CLOEXEC_DEFAULT
    for (const int standard : {0, 1, 2}) ::posix_spawn_file_actions_addinherit_np(&actions, standard);
    flags |= POSIX_SPAWN_CLOEXEC_DEFAULT;
#endif
    ::posix_spawnattr_setflags(&attributes, flags);
  }
  ~SpawnSettings() {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }
};

pid_t spawn(const SupervisorOptions& options, int descriptor) {
  const std::string executable = options.executable.empty() ? own_executable() : options.executable;
  std::vector<std::string> words = {options.executable.empty() ? "cortex" : executable};
  words.insert(words.end(), options.arguments.begin(), options.arguments.end());
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const SpawnSettings settings(descriptor);
  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, executable.c_str(), &settings.actions, &settings.attributes, arguments.data(),
                                  process_environment());
  if (error != 0) fail(error, executable.c_str());
  return pid;
}

// Until the process has ended; it stays a zombie, so that its id is nobody else's.
void wait_for_exit(pid_t pid) {
  siginfo_t info;
  while (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT) != 0 && errno == EINTR) continue;
}

std::string describe(int status) {
  if (WIFSIGNALED(status)) return fmt::format("signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)));
  return fmt::format("exit status {}", WEXITSTATUS(status));
}

// What it throws is lost: for the end of a thread that has nobody left to tell.
void quietly(const std::function<void()>& call) noexcept {
  try {
    call();
  } catch (...) {  // NOLINT(bugprone-empty-catch): as above
  }
}

}  // namespace

Supervisor::Supervisor(SupervisorOptions options, SupervisorEvents events)
    : options_(std::move(options)), events_(std::move(events)) {
  if (options_.stall_after < kMinStallAfter) {
    throw Error(ErrorCode::invalid_option, fmt::format("stall_after: {} ms; at least {} ms",
                                                       options_.stall_after.count(), kMinStallAfter.count()));
  }
  waiter_ = std::thread([this] { wait_for_exits(); });
  try {
    thread_ = std::thread([this] { run(); });
  } catch (...) {
    end_waiter();
    throw;
  }
}

Supervisor::~Supervisor() {
  stop();
  thread_.join();
  end_waiter();
}

void Supervisor::stop() {
  std::lock_guard lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
}

void Supervisor::replace() {
  std::lock_guard lock(mutex_);
  if (pid_ == 0 || exited_) return;
  replacing_ = true;
  changed_.notify_all();
}

void Supervisor::beat() {
  std::lock_guard lock(mutex_);
  last_beat_ = Clock::now();
  if (!std::exchange(beaten_, true)) changed_.notify_all();  // the patience changes
}

pid_t Supervisor::pid() const {
  std::lock_guard lock(mutex_);
  return pid_;
}

void Supervisor::run() {
  try {
    keep_alive();
  } catch (const std::exception& error) {
    log_error("the worker can't be kept alive");
    log_error(error.what());
    quietly(events_.gave_up);
  }
}

void Supervisor::keep_alive() {
  const auto stopping = [this] { return stopping_; };
  while (true) {
    std::string how;
    try {
      how = run_process();
    } catch (const std::exception& error) {
      how = fmt::format("could not start: {}", error.what());
    }
    std::unique_lock lock(mutex_);
    if (stopping_) return;
    const bool replaced = std::exchange(replacing_, false);
    lock.unlock();
    if (replaced) {
      log_info("the worker is replaced");
      continue;
    }
    log_error(fmt::format("the worker died: {}", how));
    events_.died(how);
    const auto delay = delay_after_death();
    if (!delay) {
      log_error(fmt::format("the worker died {} times: given up", options_.max_deaths));
      return events_.gave_up();
    }
    lock.lock();
    if (changed_.wait_for(lock, *delay, stopping)) return;
  }
}

std::string Supervisor::run_process() {
  SocketPair sockets = make_socket_pair();
  adopt(spawn(options_, sockets.theirs.get()));
  try {
    sockets.theirs.reset();
    log_info(fmt::format("worker {} started", pid()));
    events_.started(std::move(sockets.ours));
    watch();
  } catch (...) {
    reap();
    throw;
  }
  return describe(reap());
}

void Supervisor::adopt(pid_t pid) {
  std::lock_guard lock(mutex_);
  pid_ = pid;
  exited_ = beaten_ = false;
  last_beat_ = Clock::now();
  changed_.notify_all();
}

// Until the process has ended, or should be ended by force.
void Supervisor::watch() {
  std::unique_lock lock(mutex_);
  const auto over = [this] { return exited_ || stopping_ || replacing_; };
  while (!over()) {
    const auto patience = beaten_ ? options_.stall_after : std::max(options_.stall_after, options_.start_patience);
    const auto silent_since = last_beat_;
    const auto beaten = [&] { return over() || last_beat_ != silent_since; };
    if (changed_.wait_until(lock, silent_since + patience, beaten)) continue;
    lock.unlock();
    log_error(fmt::format("the worker has been silent for {} ms: it is ended", patience.count()));
    events_.stalled();
    lock.lock();
    signal_process(SIGABRT);
    break;
  }
  changed_.wait_for(lock, options_.kill_grace, [this] { return exited_; });
}

int Supervisor::reap() {
  std::unique_lock lock(mutex_);
  signal_process(SIGKILL);
  changed_.wait(lock, [this] { return exited_; });
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) continue;
  pid_ = 0;
  return status;
}

void Supervisor::wait_for_exits() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return over_ || (pid_ != 0 && !exited_); });
    if (over_) return;
    const pid_t pid = pid_;
    lock.unlock();
    wait_for_exit(pid);
    lock.lock();
    exited_ = true;
    changed_.notify_all();
  }
}

void Supervisor::end_waiter() {
  {
    std::lock_guard lock(mutex_);
    over_ = true;
    changed_.notify_all();
  }
  waiter_.join();
}

// Under the lock, and only while it is not reaped: the id is its own.
void Supervisor::signal_process(int signal) {
  if (!exited_) ::kill(pid_, signal);
}

std::optional<std::chrono::milliseconds> Supervisor::delay_after_death() {
  const auto now = Clock::now();
  deaths_.push_back(now);
  while (now - deaths_.front() > options_.death_window) deaths_.pop_front();
  const int deaths = static_cast<int>(deaths_.size());
  if (deaths >= options_.max_deaths) return std::nullopt;
  std::chrono::milliseconds delay{0};
  for (int i = 1; i < deaths; ++i) {
    delay = i == 1 ? options_.restart_delay : std::min(2 * delay, options_.max_restart_delay);
  }
  return delay;
}

}  // namespace cortex

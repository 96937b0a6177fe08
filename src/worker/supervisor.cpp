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

#ifdef __APPLE__
#include <crt_externs.h>
#include <mach-o/dyld.h>
#else
extern char** environ;
#endif

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
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes, &none);
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

}  // namespace

Supervisor::Supervisor(SupervisorOptions options, SupervisorEvents events)
    : options_(std::move(options)), events_(std::move(events)) {
  thread_ = std::thread([this] { run(); });
}

Supervisor::~Supervisor() {
  stop();
  thread_.join();
}

void Supervisor::stop() {
  std::lock_guard lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
}

void Supervisor::beat() {
  std::lock_guard lock(mutex_);
  last_beat_ = Clock::now();
}

pid_t Supervisor::pid() const {
  std::lock_guard lock(mutex_);
  return pid_;
}

void Supervisor::run() {
  const auto stopping = [this] { return stopping_; };
  while (true) {
    std::string how;
    try {
      how = run_process();
    } catch (const std::system_error& error) {
      how = fmt::format("could not start: {}", error.what());
    }
    std::unique_lock lock(mutex_);
    if (stopping_) return;
    lock.unlock();
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
  const pid_t pid = spawn(options_, sockets.theirs.get());
  sockets.theirs.reset();
  {
    std::lock_guard lock(mutex_);
    pid_ = pid;
    exited_ = false;
    last_beat_ = Clock::now();
  }
  std::thread waiter([this, pid] {
    wait_for_exit(pid);
    std::lock_guard lock(mutex_);
    exited_ = true;
    changed_.notify_all();
  });
  log_info(fmt::format("worker {} started", pid));
  events_.started(std::move(sockets.ours));
  {
    std::unique_lock lock(mutex_);
    watch(&lock);
  }
  waiter.join();
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  std::lock_guard lock(mutex_);
  pid_ = 0;
  return describe(status);
}

void Supervisor::watch(std::unique_lock<std::mutex>* lock) {
  const auto exited = [this] { return exited_; };
  while (!exited_ && !stopping_) {
    const auto silent_since = last_beat_;
    changed_.wait_until(*lock, silent_since + options_.stall_after, [this] { return exited_ || stopping_; });
    if (exited_ || stopping_ || last_beat_ != silent_since) continue;
    lock->unlock();
    log_error(fmt::format("the worker has been silent for {} ms: it is ended", options_.stall_after.count()));
    events_.stalled();
    lock->lock();
    signal_process(SIGABRT);
    break;
  }
  if (changed_.wait_for(*lock, options_.kill_grace, exited)) return;
  signal_process(SIGKILL);
  changed_.wait(*lock, exited);
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

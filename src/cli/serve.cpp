#include <arpa/inet.h>
#include <fmt/core.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <system_error>
#include <thread>

#include "base/channel.h"
#include "base/error.h"
#include "cli/api_keys.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/estimate.h"
#include "cli/fetch/url.h"
#include "cli/guard_flags.h"
#include "engine/local_engine.h"
#include "http/front.h"
#include "worker/worker_client.h"

namespace cortex {
namespace {

using Milliseconds = std::chrono::milliseconds;

struct ServeFlags {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8080;
  std::vector<std::string> host_names;
  std::string api_key_file;
  std::string admin_key_file;
  int rate_limit = 0;
  int rate_burst = 0;
  bool insecure_no_auth = false;
  bool in_process = false;
  std::string state_dir;
  std::optional<std::string> kv_dir;      // absent: in the state directory
  std::optional<std::string> stream_dir;  // likewise
  std::uint64_t kv_disk_bytes = EngineOptions().kv_disk_bytes;
  std::uint64_t kv_disk_free_bytes = EngineOptions().kv_disk_free_bytes;
  std::uint64_t kv_write_bytes_per_day = EngineOptions().kv_write_bytes_per_day;
  std::string metrics_compat;
  std::uint64_t embed_cache_bytes = FrontOptions().embed_cache_bytes;
  int most_waiting = 512;
  int most_conversations = 1024;
  std::int64_t keep_conversations_s = 86400;
  std::int64_t header_timeout_ms = 10'000;
  std::int64_t body_timeout_ms = 30'000;
  std::int64_t body_rate = 1024;
  std::int64_t half_close_probe_ms = 1'000;
  std::int64_t write_timeout_ms = 60'000;
  std::int64_t idle_timeout_ms = 60'000;
  std::int64_t ping_interval_ms = 15'000;
  std::int64_t drain_delay_ms = 0;
  std::int64_t drain_timeout_ms = 30'000;
  std::int64_t stall_after_ms = 30'000;
  std::int64_t restart_delay_ms = 1'000;
};

void add_cache_flags(CLI::App& app, ServeFlags* flags) {
  app.add_option("--kv-dir", flags->kv_dir,
                 "Where computed prompts are kept over restarts, by default \"kv\" in the state directory; an empty "
                 "value keeps none")
      ->envname(environment_name_of("kv-dir"))
      ->type_name("DIR");
  app.add_option("--stream-dir", flags->stream_dir,
                 "Where weights that don't fit into --memory-budget are kept packed, to be read layer by layer, by "
                 "default \"layers\" in the state directory; an empty value reads none")
      ->envname(environment_name_of("stream-dir"))
      ->type_name("DIR");
  const auto add_bytes = [&](const std::string& name, std::uint64_t* value, const char* text, const std::string& help) {
    CLI::Option* option = app.add_option("--" + name, *value, help)->envname(environment_name_of(name));
    takes_bytes(option);
    option->default_str(text);
  };
  add_bytes("kv-disk", &flags->kv_disk_bytes, "4GiB", "Bytes that computed prompts may have on disk; 0 keeps none");
  add_bytes("kv-disk-free", &flags->kv_disk_free_bytes, "1GiB", "Bytes that they leave free on their file system");
  add_bytes("kv-writes-per-day", &flags->kv_write_bytes_per_day, "64GiB",
            "Bytes of them that may be written in a day, to spare the disk");
  add_bytes("embed-cache", &flags->embed_cache_bytes, "64MiB",
            "Bytes of embeddings and scores in memory; 0 keeps none");
}

void add_flags(CLI::App& app, ServeFlags* flags) {
  flags->state_dir = default_state_dir();
  const auto add = [&](const std::string& name, auto* value, const std::string& help) {
    return app.add_option("--" + name, *value, help)->envname(environment_name_of(name))->capture_default_str();
  };
  add("host", &flags->host, "Address to listen on");
  add("port", &flags->port, "Port to listen on; 0 picks a free one")->check(CLI::Range(0, 65535));
  app.add_option("--host-name", flags->host_names, "A name for this server that Host and Origin may have; repeatable")
      ->allow_extra_args(false);
  add("api-key-file", &flags->api_key_file, "A file with one API key a line; requests must then have one of them")
      ->type_name("FILE");
  add("admin-key-file", &flags->admin_key_file,
      "A file with one admin key a line: they may do what API keys may, and load and unload models")
      ->type_name("FILE");
  add("rate-limit", &flags->rate_limit,
      "POST requests a minute of each API key, or of each address where there are no keys; 0 is no limit")
      ->check(CLI::NonNegativeNumber);
  add("rate-burst", &flags->rate_burst, "How many of them may come at once; 0 is as many as in a minute")
      ->check(CLI::NonNegativeNumber);
  app.add_flag("--insecure-no-auth", flags->insecure_no_auth, "Listen beyond this machine without API keys");
  app.add_flag("--in-process", flags->in_process, "Run the engine in this process, for debugging");
  add("state-dir", &flags->state_dir, "Where conversations and computed prompts are kept")->type_name("DIR");
  add_cache_flags(app, flags);
  app.add_option("--metrics-compat", flags->metrics_compat, "Adds to /metrics what others call it: vllm")
      ->envname(environment_name_of("metrics-compat"))
      ->check(CLI::IsMember({"vllm"}));
  add("max-waiting", &flags->most_waiting, "Requests that may wait; more get 429")->check(CLI::PositiveNumber);
  add("max-conversations", &flags->most_conversations, "Conversations that are kept")->check(CLI::PositiveNumber);
  add("keep-conversations-s", &flags->keep_conversations_s, "Seconds a conversation is kept after its last use")
      ->check(CLI::PositiveNumber);
  const auto add_time = [&](const std::string& name, std::int64_t* value, const std::string& help,
                            std::int64_t least = 1) {
    add(name, value, help)->check(CLI::Range(least, std::int64_t{86'400'000}));
  };
  add_time("header-timeout-ms", &flags->header_timeout_ms, "For a request's header block");
  add_time("body-timeout-ms", &flags->body_timeout_ms, "Between two pieces of a request's body");
  add("body-rate", &flags->body_rate, "Bytes a second a request's body must come at, beyond its timeout")
      ->check(CLI::PositiveNumber);
  add_time("half-close-probe-ms", &flags->half_close_probe_ms,
           "Between looks whether a client that has closed its sending side still reads");
  add_time("write-timeout-ms", &flags->write_timeout_ms, "For a client that does not read");
  add_time("idle-timeout-ms", &flags->idle_timeout_ms, "Between two requests of a connection");
  add_time("ping-interval-ms", &flags->ping_interval_ms, "Silence in a stream before a ping");
  add_time("drain-delay-ms", &flags->drain_delay_ms, "After SIGTERM, before new requests are refused", 0);
  add_time("drain-timeout-ms", &flags->drain_timeout_ms, "For requests that run when it drains", 0);
  add_time("stall-after-ms", &flags->stall_after_ms, "Without a sign of life the engine's process is replaced", 100);
  add_time("restart-delay-ms", &flags->restart_delay_ms,
           "Before the engine's process is started again at its second death, doubled at each further one");
}

AccessKeys access_keys_of(const ServeFlags& flags) {
  for (const std::string& path : {flags.api_key_file, flags.admin_key_file}) {
    struct stat status{};
    if (::stat(path.c_str(), &status) == 0 && (status.st_mode & S_IROTH)) {
      log_warning(fmt::format("{}: everybody on this machine may read these keys", path));
    }
  }
  AccessKeys keys = read_access_keys(flags.api_key_file, flags.admin_key_file, std::getenv);
  // The engine's process has no use for them.
  ::unsetenv(kApiKeysVariable);
  ::unsetenv(kAdminKeysVariable);
  return keys;
}

// Throws Error invalid_option for what is no numeric address.
std::string address_of(const std::string& host) {
  if (host == "localhost") return "127.0.0.1";
  in6_addr ignored{};
  if (inet_pton(AF_INET, host.c_str(), &ignored) == 1 || inet_pton(AF_INET6, host.c_str(), &ignored) == 1) return host;
  throw Error(ErrorCode::invalid_option,
              fmt::format("--host {}: a numeric address is wanted, such as 127.0.0.1, 0.0.0.0 or ::1", host));
}

std::string url_of(const std::string& address, int port) {
  return address.find(':') == std::string::npos ? fmt::format("http://{}:{}", address, port)
                                                : fmt::format("http://[{}]:{}", address, port);
}

FrontOptions front_options(const ServeFlags& flags, const EngineOptions& engine) {
  FrontOptions options;
  ListenerOptions& listener = options.listener;
  listener.address = address_of(flags.host);
  listener.port = flags.port;
  listener.host_names = flags.host_names;
  AccessKeys keys = access_keys_of(flags);
  if (!is_loopback_host(listener.address) && keys.none() && !flags.insecure_no_auth) {
    throw Error(ErrorCode::invalid_option,
                fmt::format("--host {}: others could use this server; give --api-key-file, or --insecure-no-auth if "
                            "that is meant",
                            flags.host));
  }
  listener.api_keys = std::move(keys.api);
  listener.admin_keys = std::move(keys.admin);
  listener.rate_limit.requests_per_minute = flags.rate_limit;
  listener.rate_limit.burst = flags.rate_burst;
  listener.header_deadline = Milliseconds(flags.header_timeout_ms);
  listener.body_deadline = Milliseconds(flags.body_timeout_ms);
  listener.body_rate_bytes_per_s = static_cast<decltype(listener.body_rate_bytes_per_s)>(flags.body_rate);
  listener.probe_half_closed_after = Milliseconds(flags.half_close_probe_ms);
  listener.write_deadline = Milliseconds(flags.write_timeout_ms);
  listener.idle_deadline = Milliseconds(flags.idle_timeout_ms);
  listener.ping_after = Milliseconds(flags.ping_interval_ms);
  if (flags.state_dir.empty()) {
    throw Error(ErrorCode::invalid_option, "--state-dir: is needed where neither XDG_STATE_HOME nor HOME is set");
  }
  options.conversations = std::filesystem::path(flags.state_dir) / "conversations.db";
  options.conversation_limits = {flags.most_conversations, std::chrono::seconds(flags.keep_conversations_s)};
  options.health.stall_after = Milliseconds(flags.stall_after_ms);
  options.most_under_way = flags.most_waiting + engine.max_sequences;
  options.embed_cache_bytes = flags.embed_cache_bytes;
  options.vllm_metrics = flags.metrics_compat == "vllm";
  return options;
}

// Where computed prompts are kept on disk, and how many.
void set_kv_disk(const ServeFlags& flags, EngineOptions* options) {
  options->kv_disk_bytes = flags.kv_disk_bytes;
  options->kv_disk_free_bytes = flags.kv_disk_free_bytes;
  options->kv_write_bytes_per_day = flags.kv_write_bytes_per_day;
  if (flags.kv_disk_bytes == 0 || flags.kv_dir == "") return;
  const std::filesystem::path state_dir = flags.state_dir;
  const std::filesystem::path folder = flags.kv_dir ? std::filesystem::path(*flags.kv_dir) : state_dir / "kv";
  options->kv_dir = std::filesystem::absolute(folder);
}

void set_stream_dir(const ServeFlags& flags, EngineOptions* options) {
  if (flags.stream_dir == "" || (!flags.stream_dir && flags.state_dir.empty())) return;
  const std::filesystem::path state_dir = flags.state_dir;
  const std::filesystem::path folder =
      flags.stream_dir ? std::filesystem::path(*flags.stream_dir) : state_dir / "layers";
  options->stream_dir = std::filesystem::absolute(folder);
}

std::unique_ptr<Engine> make_engine(const ServeFlags& flags, const LogFlags& log, EngineOptions options) {
  if (flags.in_process) {
    LocalEngineOptions local;
    static_cast<EngineOptions&>(local) = std::move(options);
    return std::make_unique<LocalEngine>(std::move(local));
  }
  WorkerClientOptions client;
  client.engine = std::move(options);
  client.supervisor.arguments = {"worker", "--log-level", log.name()};
  client.supervisor.stall_after = Milliseconds(flags.stall_after_ms);
  client.supervisor.restart_delay = Milliseconds(flags.restart_delay_ms);
  return std::make_unique<WorkerClient>(std::move(client));
}

// The signals that end the server. They are blocked in every thread that is made later and met by a thread of their
// own.
class EndSignals {
 public:
  EndSignals() {
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGHUP, SIG_IGN);
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGTERM);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, kWake);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    thread_ = std::thread([this] { run(); });
  }

  ~EndSignals() {
    ending_ = true;
    pthread_kill(thread_.native_handle(), kWake);
    thread_.join();
  }

  // The next signal, within the time; each is given once.
  std::optional<int> await_for(Milliseconds timeout) { return arrived_.receive_for(timeout); }
  std::optional<int> await() { return arrived_.receive(); }

 private:
  static constexpr int kWake = SIGUSR1;  // tells our own thread that it is over

  void run() {
    for (;;) {
      int signal = 0;
      if (sigwait(&signals_, &signal) != 0) continue;
      if (ending_) return;
      if (signal != kWake) arrived_.send(int{signal});
    }
  }

  sigset_t signals_{};
  Channel<int> arrived_;
  std::atomic<bool> ending_ = false;
  std::thread thread_;
};

// What could not be held even alone is refused before anything is started.
void check_memory(const EngineOptions& engine) {
  for (const ModelConfig& model : engine.models) {
    const EstimateOptions options{.backend = engine.backend,
                                  .threads = engine.threads,
                                  .exact = engine.exact,
                                  .kind = model.kind,
                                  .kv_bytes = engine.kv_bytes,
                                  .rows_per_step = engine.rows_per_step,
                                  .may_stream = !engine.stream_dir.empty(),
                                  .budget_bytes = engine.memory_bytes};
    try {
      planned(estimate_memory(model.path, options), engine.memory_bytes, ErrorCode::invalid_option);
    } catch (const Error& error) {
      throw Error(error.code(), fmt::format("model {}: {}", model.name, error.message()));
    }
  }
}

// A second signal cuts every wait short.
void go_down(Front& front, const ServeFlags& flags, EndSignals& signals) {
  constexpr Milliseconds kLook{50};
  front.announce_drain();
  if (signals.await_for(Milliseconds(flags.drain_delay_ms))) return;
  front.drain();
  for (Milliseconds waited{0}; waited.count() < flags.drain_timeout_ms; waited += kLook) {
    if (front.wait_until_idle(kLook)) return;
    if (signals.await_for(Milliseconds(0))) return;
  }
  log_warning(fmt::format("requests still run after {} ms; they are cut off", flags.drain_timeout_ms));
}

// The signal that ends the server; nothing when the guards turn out not to move the engine.
std::optional<int> await_end(const Front& front, EndSignals& signals) {
  constexpr Milliseconds kLook{50};
  for (;;) {
    const SelfTestState state = front.self_test();
    if (state == SelfTestState::failed) return {};
    if (state == SelfTestState::passed) return signals.await();
    if (const auto signal = signals.await_for(kLook)) return signal;
  }
}

int serve(const ServeFlags& flags, const GuardFlags& guard, const LogFlags& log, EngineOptions engine_options) {
  EndSignals signals;
  // What can be wrong with the options and the files shows before anything is started.
  FrontOptions options = front_options(flags, engine_options);
  options.guard = guard.options();
  engine_options.memory_bytes = guard.memory_budget_bytes();
  set_kv_disk(flags, &engine_options);
  set_stream_dir(flags, &engine_options);
  if (engine_options.memory_bytes) check_memory(engine_options);
  const std::string address = options.listener.address;
  options.estimate =
      memory_estimator(real_file_system(), model_places(std::getenv), engine_options, options.embed_cache_bytes);
  const Models models(real_file_system(), engine_options.models);
  std::unique_ptr<Engine> engine = make_engine(flags, log, engine_options);
  std::unique_ptr<Front> front;
  try {
    front = std::make_unique<Front>(std::move(options), models, *engine, system_clock());
  } catch (const std::system_error& error) {
    log_error(fmt::format("{} can't be listened on: {}", url_of(address, flags.port), error.code().message()));
    return kExitUnavailable;
  }
  fmt::print("cortex " CORTEX_VERSION " listens on {}\n", url_of(address, front->port()));
  std::fflush(stdout);

  const std::optional<int> signal = await_end(*front, signals);
  if (signal) {
    log_info(fmt::format("signal {}: going down", *signal));
    go_down(*front, flags, signals);
  }
  front->stop();
  // What still runs ends with the engine, while the services that hear of it are there.
  engine.reset();
  if (!signal) log_error("self_test_failed: the guards of memory and heat don't move the engine");
  return signal ? kExitOk : kExitInternal;
}

}  // namespace

RunCommand serve_command(CLI::App& app) {
  app.description("Answers /chat, /embed and /rerank over HTTP.");
  struct Flags {
    explicit Flags(CLI::App& app) : engine(app), guard(app), log(app, LogLevel::info) { add_flags(app, &serve); }
    EngineFlags engine;
    GuardFlags guard;
    LogFlags log;
    ServeFlags serve;
  };
  const auto flags = std::make_shared<Flags>(app);
  return [flags] {
    start_log(flags->log.least(), "serve");
    return run_command([&] { return serve(flags->serve, flags->guard, flags->log, flags->engine.options()); });
  };
}

}  // namespace cortex

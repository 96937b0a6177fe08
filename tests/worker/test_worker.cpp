// A worker process for tests: `test_worker ENGINE`, ENGINE one of
//   echo   an EchoEngine that waits rows_per_step milliseconds between tokens, obeys test_tokens.h, and refuses
//   grammars
//          saying which vocabulary came with them
//   fake   a LocalEngine with the fake backend
//   local  a LocalEngine, as `cortex worker`
//   leak   as fake, and each load keeps 200 MiB for ever
//   die    ends at once, with exit status 3
#include <fmt/core.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "engine/local_engine.h"
#include "fakes/echo_engine.h"
#include "fakes/fake_backend.h"
#include "worker/test_tokens.h"
#include "worker/worker_main.h"

namespace cortex {
namespace {

bool has(const GenerateRequest& request, TokenId token) {
  return std::ranges::find(request.prompt, token) != request.prompt.end();
}

std::unique_ptr<Engine> make_echo(const EngineOptions& engine_options) {
  EchoOptions options;
  for (const ModelConfig& model : engine_options.models) options.models.push_back(model.name);
  options.token_delay = std::chrono::milliseconds(engine_options.rows_per_step);
  options.fail_generate = [](const GenerateRequest& request) -> std::optional<Error> {
    if (has(request, kDieToken)) std::raise(SIGKILL);
    if (has(request, kHangToken)) {
      std::signal(SIGABRT, SIG_IGN);
      std::this_thread::sleep_for(std::chrono::hours(1));
    }
    if (!request.grammar) return std::nullopt;
    const TokenTexts* texts = request.grammar->vocabulary.get();
    if (texts == nullptr) return Error(ErrorCode::internal_error, "no vocabulary");
    return Error(ErrorCode::invalid_grammar,
                 fmt::format("{} ids at {}", texts->special.size(), static_cast<const void*>(texts)));
  };
  return std::make_unique<EchoEngine>(std::move(options));
}

std::unique_ptr<Engine> make_fake(const EngineOptions& engine_options, bool leaks) {
  static FakeSwitches switches;
  switches.step_ms = 2;
  LocalEngineOptions options;
  static_cast<EngineOptions&>(options) = engine_options;
  options.open_model = [leaks](const ModelConfig& config) {
    if (leaks) {
      static std::vector<std::vector<char>> kept;
      kept.emplace_back(std::size_t{200} << 20, 1);
    }
    return open_fake_model(config);
  };
  options.open_backend = [](std::string_view name, const BackendOptions&) {
    return std::make_unique<FakeBackend>(std::string(name), &switches);
  };
  return std::make_unique<LocalEngine>(std::move(options));
}

int run(const char* engine) {
  if (std::strcmp(engine, "echo") == 0) return run_worker(kWorkerDescriptor, make_echo);
  for (const bool leaks : {false, true}) {
    if (std::strcmp(engine, leaks ? "leak" : "fake") != 0) continue;
    return run_worker(kWorkerDescriptor, [&](const EngineOptions& options) { return make_fake(options, leaks); });
  }
  if (std::strcmp(engine, "local") == 0) return run_worker(kWorkerDescriptor);
  return 3;
}

}  // namespace
}  // namespace cortex

int main(int count, char** arguments) { return count == 2 ? cortex::run(arguments[1]) : 64; }

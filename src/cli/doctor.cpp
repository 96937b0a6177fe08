#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <set>
#include <string>

#include "base/json_writer.h"
#include "cli/characters.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/estimate.h"
#include "cli/fetch/hub.h"
#include "cli/findings.h"
#include "cli/interrupt.h"
#include "guard/default_budget.h"

namespace cortex {
namespace {

constexpr int kCheckColumns = 10;

struct DoctorFlags {
  explicit DoctorFlags(CLI::App& app) : state_dir(default_state_dir()) {
    app.add_option("--model", models, "A model serve is to load, as serve takes it; repeatable; default: any")
        ->type_name("MODEL")
        ->allow_extra_args(false)
        ->envname("CORTEX_MODEL");
    app.add_option("--backend", backend, "What is to execute models")
        ->envname("CORTEX_BACKEND")
        ->check(CLI::IsMember({"auto", "cpu", "mlx"}))
        ->capture_default_str();
    app.add_option("--host", host, "Address to listen on")->envname("CORTEX_HOST")->capture_default_str();
    app.add_option("--port", port, "Port to listen on")
        ->envname("CORTEX_PORT")
        ->check(CLI::Range(0, 65535))
        ->capture_default_str();
    app.add_option("--api-key-file", api_key_file, "A file with serve's API keys; none by default")
        ->type_name("FILE")
        ->envname("CORTEX_API_KEY_FILE");
    app.add_option("--admin-key-file", admin_key_file, "A file with serve's admin keys; none by default")
        ->type_name("FILE")
        ->envname("CORTEX_ADMIN_KEY_FILE");
    app.add_option("--state-dir", state_dir, "Where conversations are kept")
        ->type_name("DIR")
        ->envname("CORTEX_STATE_DIR")
        ->capture_default_str();
    takes_bytes(app.add_option("--memory-budget", memory_budget_bytes,
                               "Bytes for weights, KV and scratch of all models; 0: what this machine has room for")
                    ->type_name("BYTES")
                    ->envname("CORTEX_MEMORY_BUDGET")
                    ->capture_default_str());
    app.add_flag("--online", online, "Ask the hub whether it can be reached; default: nothing leaves this machine");
    app.add_flag("--json", json, "Print {\"ready\":true,\"findings\":[..]}");
  }

  std::vector<std::string> models;
  std::string backend = "auto";
  std::string host = "127.0.0.1";
  std::string api_key_file;
  std::string admin_key_file;
  std::string state_dir;
  std::uint64_t memory_budget_bytes = 0;
  int port = 8080;
  bool online = false;
  bool json = false;
};

Finding look_at_hub() {
  const char* given = std::getenv("HF_ENDPOINT");
  const std::string endpoint = given && *given ? given : kHubEndpoint;
  if (hub_is_offline(std::getenv)) return {"hub", FindingStatus::warning, "HF_HUB_OFFLINE is set", "unset it to pull"};
  try {
    HttpClient client({std::chrono::seconds(10), std::chrono::seconds(10)}, InterruptWatch::interrupted);
    const ReplyHead head = client.send({parse_url(endpoint), true, {}, {}}, [](const ReplyHead&, std::string_view) {});
    if (head.status < 500) return {"hub", FindingStatus::ok, endpoint + " answers", ""};
    return {"hub", FindingStatus::warning, fmt::format("{} answers with status {}", endpoint, head.status),
            "try later"};
  } catch (const std::exception& error) {
    return {"hub", FindingStatus::warning, error.what(),
            "check the network and https_proxy; HF_ENDPOINT names a mirror; models that are here work without"};
  }
}

Finding look_at_fit(const DoctorFlags& flags, const InventoryEntry& entry, const Machine& machine) {
  EstimateOptions options;
  options.backend = flags.backend;
  options.kind = entry.kind;
  options.budget_bytes =
      flags.memory_budget_bytes > 0 ? std::optional(flags.memory_budget_bytes) : default_memory_budget("/", {});
  try {
    return judge_fit(entry.name, estimate_model(entry.path, options, machine.memory_bytes));
  } catch (const Error& error) {
    return {"fit", FindingStatus::problem, fmt::format("{}: {}", entry.name, error.message()),
            "`cortex models` lists those that load"};
  }
}

std::vector<Finding> examine_all(const DoctorFlags& flags) {
  const Machine machine = read_machine();
  const ModelPlaces places = model_places(std::getenv);
  const FileSystem& files = real_file_system();
  std::vector<Finding> findings = {judge_processor(machine),
                                   judge_cores(machine),
                                   judge_memory(machine),
                                   judge_gpus(machine),
                                   look_at_backend(flags.backend, machine),
                                   judge_open_files(machine)};
  std::set<std::string> names;
  for (const auto& option : flags.models) {
    InventoryEntry entry = examine_option(files, places, option);
    if (!names.insert(entry.name).second) entry.problem = "the name is given twice";
    findings.push_back(judge_model(entry, machine));
    if (findings.back().status != FindingStatus::problem) findings.push_back(look_at_fit(flags, entry, machine));
  }
  if (flags.models.empty()) findings.push_back(judge_inventory(take_inventory(files, places, {})));
  findings.push_back(look_at_folder("state", flags.state_dir, "--state-dir"));
  findings.push_back(look_at_port(flags.host, flags.port));
  findings.push_back(look_at_access(flags.host, flags.api_key_file, flags.admin_key_file, std::getenv));
  if (flags.online) findings.push_back(look_at_hub());
  return findings;
}

std::string as_json(const std::vector<Finding>& findings, bool ready) {
  JsonWriter json;
  json.begin_object().key("version").string(CORTEX_VERSION).key("ready").boolean(ready);
  json.key("findings").begin_array();
  for (const auto& finding : findings) {
    json.begin_object().key("check").string(finding.check).key("status").string(name_of(finding.status));
    json.key("message").string(finding.message);
    if (!finding.next.empty()) json.key("next").string(finding.next);
    json.end_object();
  }
  return json.end_array().end_object().take();
}

std::string as_text(const std::vector<Finding>& findings, bool ready) {
  std::string out = "cortex " CORTEX_VERSION "\n";
  for (const auto& finding : findings) {
    const std::string mark = finding.status == FindingStatus::ok ? "" : fmt::format("{}: ", name_of(finding.status));
    out += fmt::format("{:<{}}{}{}\n", finding.check, kCheckColumns, mark, finding.message);
    if (!finding.next.empty()) out += fmt::format("{:<{}}next: {}\n", "", kCheckColumns, finding.next);
  }
  return printable(out) + (ready ? "serve would start.\n" : "serve would not start: see the problems above.\n");
}

int examine_machine(const DoctorFlags& flags) {
  const InterruptWatch watch;
  const std::vector<Finding> findings = examine_all(flags);
  const bool ready = std::none_of(findings.begin(), findings.end(),
                                  [](const Finding& finding) { return finding.status == FindingStatus::problem; });
  print_out(flags.json ? as_json(findings, ready) + "\n" : as_text(findings, ready));
  return ready ? kExitOk : kExitNotReady;
}

}  // namespace

RunCommand doctor_command(CLI::App& app) {
  app.description(
      "Says what this machine is, what Cortex would run on, and what is missing, each with the next step. The status "
      "is 0 if serve would start, else 1.");
  const auto flags = std::make_shared<DoctorFlags>(app);
  return [flags] {
    start_log(LogLevel::error, "doctor");
    return run_tool("doctor", [&] { return examine_machine(*flags); });
  };
}

}  // namespace cortex

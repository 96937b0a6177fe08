#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>

#include "base/json_writer.h"
#include "cli/characters.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/fetch/progress.h"
#include "cli/inventory.h"

namespace cortex {
namespace {

struct ModelsFlags {
  explicit ModelsFlags(CLI::App& app) {
    app.add_option("--model", models, "A model to look at, as serve takes it; repeatable; none by default")
        ->type_name("MODEL")
        ->allow_extra_args(false)
        ->envname("CORTEX_MODEL");
    app.add_option("--models-dir", folders, "A folder of models to list too; repeatable; none by default")
        ->type_name("DIR")
        ->allow_extra_args(false);
    app.add_flag("--json", json, "Print {\"models\":[..]}");
  }

  std::vector<std::string> models, folders;
  bool json = false;
};

std::string as_json(const std::vector<InventoryEntry>& entries) {
  JsonWriter json;
  json.begin_object().key("models").begin_array();
  for (const auto& entry : entries) {
    json.begin_object().key("name").string(entry.name).key("source").string(entry.source);
    json.key("path").string(entry.path.string()).key("loads").boolean(entry.problem.empty());
    if (entry.kind) json.key("kind").string(name_of(*entry.kind));
    if (entry.problem.empty()) {
      json.key("architecture").string(entry.architecture).key("format").string(entry.format);
      json.key("bytes").unsigned_integer(entry.weight_bytes).key("context_tokens").integer(entry.context_tokens);
    } else {
      json.key("problem").string(entry.problem);
    }
    json.end_object();
  }
  return json.end_array().end_object().take();
}

using Row = std::array<std::string, 6>;

Row row_of(const InventoryEntry& entry) {
  return {printable(entry.name),
          std::string(entry.kind ? name_of(*entry.kind) : ""),
          printable(entry.architecture),
          printable(entry.format),
          entry.problem.empty() ? format_bytes(entry.weight_bytes) : "",
          entry.problem.empty() ? std::to_string(entry.context_tokens) : ""};
}

std::string as_table(const std::vector<InventoryEntry>& entries) {
  std::vector<Row> rows = {{"NAME", "KIND", "ARCHITECTURE", "FORMAT", "SIZE", "CONTEXT"}};
  std::array<std::size_t, 6> widths{};
  for (const auto& entry : entries) rows.push_back(row_of(entry));
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::string line;
    for (std::size_t column = 0; column < widths.size(); ++column) {
      line += fmt::format("{:<{}}  ", rows[i][column], widths[column]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
    if (i > 0 && !entries[i - 1].problem.empty())
      out += "  can't be loaded: " + printable(entries[i - 1].problem) + "\n";
  }
  return out;
}

int list(const ModelsFlags& flags) {
  const ModelPlaces places = model_places(std::getenv);
  std::vector<InventoryEntry> entries;
  for (const auto& option : flags.models) entries.push_back(examine_option(real_file_system(), places, option));
  for (auto& entry : take_inventory(real_file_system(), places, flags.folders)) entries.push_back(std::move(entry));
  if (flags.json) {
    print_out(as_json(entries) + "\n");
  } else if (entries.empty()) {
    print_out(fmt::format("no models in {} or {}; `cortex pull smollm2` fetches a first one\n",
                          places.packaged.string(), places.hub.string()));
  } else {
    print_out(as_table(entries));
  }
  return kExitOk;
}

}  // namespace

RunCommand models_command(CLI::App& app) {
  app.description(
      "Lists the models on this machine: the packaged ones, those in the hub's cache and in folders that are named. "
      "NAME is what --model takes.");
  const auto flags = std::make_shared<ModelsFlags>(app);
  return [flags] {
    start_log(LogLevel::error, "models");
    return run_tool("models", [&] { return list(*flags); });
  };
}

}  // namespace cortex

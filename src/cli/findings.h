// What `cortex doctor` finds: each a judgement over facts that somebody else has read, with what to do next. Pure but
// for those that look. Main's thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "cli/inventory.h"
#include "cli/machine.h"
#include "service/memory_estimate.h"

namespace cortex {

enum class FindingStatus { ok, warning, problem };  // a problem keeps serve from starting
std::string_view name_of(FindingStatus status);

struct Finding {
  std::string check;  // "cpu", "memory", ...
  FindingStatus status = FindingStatus::ok;
  std::string message;
  std::string next;  // what to do; empty when nothing is
};

Finding judge_processor(const Machine& machine);
Finding judge_cores(const Machine& machine);
Finding judge_memory(const Machine& machine);
Finding judge_gpus(const Machine& machine);
Finding judge_open_files(const Machine& machine);
Finding judge_model(const InventoryEntry& entry, const Machine& machine);
// Whether a model would fit, by itself, into the budget or without one into this machine's memory.
Finding judge_fit(const std::string& model, const MemoryEstimate& estimate);
// Where no model was named: whether there is one to name.
Finding judge_inventory(const std::vector<InventoryEntry>& entries);

// Opens the backend of this name, and says why it is that one.
Finding look_at_backend(const std::string& name, const Machine& machine);
// Whether the address can be listened on now. Port 0 always can.
Finding look_at_port(const std::string& address, int port);
// Who may use a server at this address; the keys' files are read if they are named, and the environment.
Finding look_at_access(const std::string& address, const std::string& api_key_file, const std::string& admin_key_file,
                       const Environment& environment);
// Whether this process may write in it, or make it.
Finding look_at_folder(const std::string& check, const std::filesystem::path& folder, const std::string& option);

}  // namespace cortex

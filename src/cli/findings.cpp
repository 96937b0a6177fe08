#include "cli/findings.h"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "backend/backend.h"
#include "base/descriptor.h"
#include "base/error.h"
#include "cli/api_keys.h"
#include "cli/fetch/progress.h"
#include "cli/fetch/url.h"

namespace cortex {
namespace {

constexpr std::uint64_t kFewFiles = 1024;
constexpr std::uint64_t kLittleMemoryBytes = std::uint64_t{1} << 30;

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

bool has(const std::vector<std::string>& words, const char* word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// Why "auto" did not take MLX although there is a GPU.
std::string why_not_mlx(const Machine& machine) {
  if (machine.gpus.empty()) return "there is no GPU";
  try {
    const auto backend = open_backend("mlx", {});
    return "MLX sees no GPU, its device is " + std::string(backend->device());
  } catch (const Error& error) {
    return error.message();
  }
}

}  // namespace

std::string_view name_of(FindingStatus status) {
  switch (status) {
    case FindingStatus::ok:
      return "ok";
    case FindingStatus::warning:
      return "warning";
    case FindingStatus::problem:
      return "problem";
  }
  return "";
}

Finding judge_processor(const Machine& machine) {
  const Processor& processor = machine.processor;
  const std::string model = processor.model.empty() ? "model unknown" : processor.model;
  const std::string sets = processor.instructions.empty() ? "" : "; " + joined(processor.instructions);
  Finding finding{"cpu", FindingStatus::ok, model + sets, ""};
  const bool x86 = has(processor.instructions, "avx");
  if (x86 && !has(processor.instructions, "avx2")) {
    finding.status = FindingStatus::warning;
    finding.next = "without AVX2 everything is computed slowly; use a GPU or another machine for larger models";
  }
  return finding;
}

Finding judge_cores(const Machine& machine) {
  Finding finding{"cores", FindingStatus::ok, fmt::format("{} of {} usable", machine.usable_cores, machine.cores), ""};
  if (machine.core_quota <= 0) return finding;
  finding.message += fmt::format("; the cgroup grants the time of {:.1f}", machine.core_quota);
  if (machine.core_quota < machine.usable_cores) {
    finding.status = FindingStatus::warning;
    finding.next = fmt::format("give --threads {}: more threads than that wait for one another",
                               std::max(1, static_cast<int>(machine.core_quota)));
  }
  return finding;
}

Finding judge_memory(const Machine& machine) {
  Finding finding{"memory", FindingStatus::ok,
                  fmt::format("{} for this process, {} available now", format_bytes(machine.memory_bytes),
                              format_bytes(machine.available_bytes)),
                  ""};
  const bool little =
      machine.available_bytes > 0 && std::min(machine.available_bytes, machine.memory_bytes) < kLittleMemoryBytes;
  if (little) {
    finding.status = FindingStatus::warning;
    finding.next = "close other programs, or choose a small model and --kv-bytes";
  }
  return finding;
}

Finding judge_gpus(const Machine& machine) {
  return {"gpu", FindingStatus::ok, machine.gpus.empty() ? "none" : joined(machine.gpus), ""};
}

Finding judge_open_files(const Machine& machine) {
  Finding finding{"files", FindingStatus::ok, fmt::format("{} may be open at a time", machine.open_files), ""};
  if (machine.open_files < kFewFiles) {
    finding.status = FindingStatus::warning;
    finding.next =
        machine.most_open_files > machine.open_files
            ? fmt::format("each connection is one: ulimit -n {}", std::min(machine.most_open_files, 4 * kFewFiles))
            : "each connection is one: have the hard limit raised, it is as low";
  }
  return finding;
}

Finding judge_model(const InventoryEntry& entry, const Machine& machine) {
  if (!entry.problem.empty()) {
    const bool is_named = entry.problem.starts_with(entry.name + ":");
    return {"model", FindingStatus::problem,
            is_named ? entry.problem : fmt::format("{}: {}", entry.name, entry.problem),
            "`cortex models` lists those that load, `cortex pull` fetches others"};
  }
  Finding finding{
      "model", FindingStatus::ok,
      fmt::format("{}: {}, {}, {}", entry.name, entry.architecture, entry.format, format_bytes(entry.weight_bytes)),
      ""};
  if (machine.memory_bytes > 0 && entry.weight_bytes > machine.memory_bytes) {
    finding.status = FindingStatus::problem;
    finding.message += fmt::format(", more than the {} of memory", format_bytes(machine.memory_bytes));
    finding.next = "choose a smaller model or a smaller quantisation of it";
  }
  return finding;
}

Finding judge_fit(const std::string& model, const MemoryEstimate& estimate) {
  std::string plan = fmt::format("weights {} {}", format_bytes(estimate.weight_bytes), estimate.weights);
  if (estimate.streaming) plan += ", some layers read from disk in every step";
  if (estimate.blocks > 0) {
    plan += fmt::format(", KV {} {} of {} blocks", format_bytes(estimate.kv_bytes), estimate.kv, estimate.blocks);
  }
  plan += fmt::format(", scratch {}", format_bytes(estimate.activation_bytes));
  if (estimate.grammar_bytes > 0) plan += fmt::format(", grammars {}", format_bytes(estimate.grammar_bytes));
  Finding finding{"fit", FindingStatus::ok,
                  fmt::format("{}: {} of {} ({})", model, format_bytes(estimate.engine_bytes()),
                              format_bytes(estimate.budget_bytes), plan),
                  ""};
  for (const auto& advice : estimate.advice) finding.next += (finding.next.empty() ? "" : "; or ") + advice;
  if (!estimate.fits) {
    finding.status = FindingStatus::problem;
    finding.message = fmt::format("{}: takes at least {}, more than the {} there are ({})", model,
                                  format_bytes(estimate.engine_bytes()), format_bytes(estimate.budget_bytes), plan);
  }
  return finding;
}

Finding judge_inventory(const std::vector<InventoryEntry>& entries) {
  const auto loads = [](const InventoryEntry& entry) { return entry.problem.empty(); };
  const auto first = std::find_if(entries.begin(), entries.end(), loads);
  if (first == entries.end()) {
    return {"models", FindingStatus::problem, fmt::format("{} here, none of which loads", entries.size()),
            "`cortex pull smollm2` fetches one to chat with, `cortex pull minilm` one to embed with"};
  }
  const auto count = std::count_if(entries.begin(), entries.end(), loads);
  return {"models", FindingStatus::ok, fmt::format("{} here that load, of {}", count, entries.size()),
          fmt::format("`cortex serve --model {}` starts a server", first->name)};
}

Finding look_at_backend(const std::string& name, const Machine& machine) {
  try {
    const auto backend = open_backend(name, {});
    const bool is_cpu = backend->name() == "cpu";
    std::string reason = "as asked";
    if (name == "auto") reason = is_cpu ? "since " + why_not_mlx(machine) : "since it has a GPU";
    Finding finding{"backend", FindingStatus::ok,
                    fmt::format("{} on {}, {}", backend->name(), backend->device(), reason), ""};
    if (is_cpu && name == "auto" && !machine.gpus.empty()) {
      finding.status = FindingStatus::warning;
      finding.next = "the GPU is not used: install the MLX module for it (CORTEX_MLX=cuda script/setup, then build)";
    }
    return finding;
  } catch (const std::exception& error) {
    return {"backend", FindingStatus::problem, error.what(), "`--backend cpu` runs everywhere"};
  }
}

Finding look_at_port(const std::string& address, int port) {
  Finding finding{"port", FindingStatus::ok, fmt::format("{} port {} is free", address, port), ""};
  const bool v6 = address.find(':') != std::string::npos;
  sockaddr_in four{};
  sockaddr_in6 six{};
  four.sin_family = AF_INET;
  four.sin_port = htons(static_cast<std::uint16_t>(port));
  six.sin6_family = AF_INET6;
  six.sin6_port = htons(static_cast<std::uint16_t>(port));
  void* target = v6 ? static_cast<void*>(&six.sin6_addr) : static_cast<void*>(&four.sin_addr);
  const std::string numeric = address == "localhost" ? "127.0.0.1" : address;
  if (inet_pton(v6 ? AF_INET6 : AF_INET, numeric.c_str(), target) != 1) {
    return {"port", FindingStatus::problem, address + " is no numeric address", "give --host 127.0.0.1"};
  }
  const Descriptor socket(::socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0));
  const int on = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const auto* name = v6 ? reinterpret_cast<const sockaddr*>(&six) : reinterpret_cast<const sockaddr*>(&four);
  const bool free = ::bind(socket.get(), name, v6 ? sizeof six : sizeof four) == 0 && ::listen(socket.get(), 1) == 0;
  if (free) return finding;
  finding.status = FindingStatus::problem;
  finding.message =
      fmt::format("{} port {} can't be listened on: {}", address, port, std::generic_category().message(errno));
  finding.next = "another server may run there already; --port takes another one, 0 picks a free one";
  return finding;
}

Finding look_at_access(const std::string& address, const std::string& api_key_file, const std::string& admin_key_file,
                       const Environment& environment) {
  AccessKeys keys;
  try {
    keys = read_access_keys(api_key_file, admin_key_file, environment);
  } catch (const Error& error) {
    return {"access", FindingStatus::problem, error.message(), "give --api-key-file a file with one key a line"};
  }
  if (is_loopback_host(address)) {
    return {"access", FindingStatus::ok, keys.none() ? "this machine only" : "this machine only, with an API key", ""};
  }
  if (!keys.none()) return {"access", FindingStatus::ok, "other machines too, with an API key", ""};
  return {"access", FindingStatus::problem, fmt::format("others could use the server at {}", address),
          "give --api-key-file; serve takes --insecure-no-auth if that is meant"};
}

Finding look_at_folder(const std::string& check, const std::filesystem::path& folder, const std::string& option) {
  if (folder.empty()) return {check, FindingStatus::problem, "no place is known: HOME is not set", "give " + option};
  std::error_code error;
  std::filesystem::path there = std::filesystem::absolute(folder, error);
  while (!std::filesystem::exists(there, error) && there.has_relative_path()) there = there.parent_path();
  const bool usable = std::filesystem::is_directory(there, error) && ::access(there.c_str(), W_OK | X_OK) == 0;
  if (usable) return {check, FindingStatus::ok, folder.string(), ""};
  return {check, FindingStatus::problem, fmt::format("{} can't be written in", there.string()),
          fmt::format("give {} a folder of yours", option)};
}

}  // namespace cortex

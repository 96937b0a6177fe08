#include "backend/backend.h"

#include <dlfcn.h>
#include <fmt/core.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#ifdef __APPLE__
#include <mach-o/dyld.h>
#endif

#include "backend/cpu/cpu_backend.h"
#include "backend/module.h"
#include "base/error.h"
#include "base/log.h"

namespace cortex {
namespace {

namespace fs = std::filesystem;

fs::path executable_directory() {
  std::error_code error;
#ifdef __APPLE__
  std::uint32_t size = 0;
  _NSGetExecutablePath(nullptr, &size);
  std::string name(size, '\0');
  if (_NSGetExecutablePath(name.data(), &size) != 0) return {};
  const fs::path executable = fs::canonical(name.c_str(), error);
#else
  const fs::path executable = fs::read_symlink("/proc/self/exe", error);
#endif
  return error ? fs::path{} : executable.parent_path();
}

// Where the module may be: only places that whoever installed the program controls.
std::vector<fs::path> module_candidates() {
  if (const char* chosen = std::getenv("CORTEX_MLX_MODULE"); chosen != nullptr && *chosen != '\0') return {chosen};
  const fs::path directory = executable_directory();
  if (directory.empty()) return {};
  return {directory / kMlxModuleFile, directory.parent_path() / "lib" / "cortex" / kMlxModuleFile};
}

fs::path find_module() {
  std::string tried;
  for (const fs::path& candidate : module_candidates()) {
    std::error_code error;
    if (fs::is_regular_file(candidate, error)) return fs::absolute(candidate);
    tried += (tried.empty() ? "" : ", ") + candidate.string();
  }
  throw Error(ErrorCode::invalid_option, fmt::format("backend mlx: no module at {}", tried));
}

// The module stays loaded as long as the process: its objects' code lives in it.
std::unique_ptr<Backend> open_mlx(const BackendOptions& options) {
  const fs::path path = find_module();
  void* module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (module == nullptr) throw Error(ErrorCode::invalid_option, fmt::format("backend mlx: {}", dlerror()));
  auto* open = reinterpret_cast<OpenModule*>(dlsym(module, kMlxModuleEntry));
  if (open == nullptr) {
    throw Error(ErrorCode::invalid_option, fmt::format("backend mlx: {} has no {}", path.string(), kMlxModuleEntry));
  }
  return std::unique_ptr<Backend>(open(&options));
}

// Cheap signs of one, so that nobody loads MLX in vain.
bool gpu_may_be_here() {
#ifdef __APPLE__
  return true;
#else
  std::error_code error;
  return fs::exists("/dev/nvidiactl", error) || fs::exists("/dev/dxg", error);
#endif
}

// MLX where it has a GPU. On a CPU the native backend is the faster one.
std::unique_ptr<Backend> open_best(const BackendOptions& options) {
  std::string reason = "there is no GPU";
  if (gpu_may_be_here()) {
    try {
      std::unique_ptr<Backend> backend = open_mlx(options);
      if (backend->device() != "cpu") {
        log_info(fmt::format("backend auto: mlx on {}", backend->device()));
        return backend;
      }
      reason = "MLX has no GPU here";
    } catch (const Error& error) {
      reason = error.message();
    }
  }
  log_info(fmt::format("backend auto: cpu, since {}", reason));
  return open_cpu(options);
}

}  // namespace

std::unique_ptr<Backend> open_backend(std::string_view name, const BackendOptions& options) {
  if (options.threads < 0) {
    throw Error(ErrorCode::invalid_option, fmt::format("threads: {}; 0 is one per core", options.threads));
  }
  if (name == "cpu") return open_cpu(options);
  if (name == "mlx") return open_mlx(options);
  if (name == "auto") return open_best(options);
  throw Error(ErrorCode::invalid_option, fmt::format("backend: unknown name \"{}\"; one of auto, cpu, mlx", name));
}

}  // namespace cortex

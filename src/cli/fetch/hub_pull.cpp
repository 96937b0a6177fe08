#include "cli/fetch/hub_pull.h"

#include <fmt/core.h>
#include <unistd.h>

#include <span>
#include <system_error>

#include "base/error.h"
#include "cli/fetch/fetch_lock.h"
#include "cli/fetch/hub_files.h"

namespace cortex {
namespace {

namespace fs = std::filesystem;

bool is_here(const fs::path& blob, std::uint64_t size_bytes) {
  std::error_code error;
  return fs::is_regular_file(blob, error) && fs::file_size(blob, error) == size_bytes && !error;
}

// What of a blob is still to come.
std::uint64_t missing_bytes(const fs::path& blob, std::uint64_t size_bytes) {
  if (is_here(blob, size_bytes)) return 0;
  std::error_code error;
  const std::uintmax_t part = fs::file_size(blob.string() + ".incomplete", error);
  return error || part > size_bytes ? size_bytes : size_bytes - part;
}

void write_ref(FileSystem& files, const fs::path& ref, const std::string& commit) {
  try {
    files.create_directories(ref.parent_path());
    files.replace(ref, std::as_bytes(std::span(commit)));
  } catch (const std::system_error& error) {
    throw Error(ErrorCode::weights_io_error, error.what());
  }
}

}  // namespace

void replace_link(const fs::path& link, const fs::path& target) {
  const fs::path temporary = link.string() + fmt::format(".{}.link", ::getpid());
  std::error_code error;
  fs::create_directories(link.parent_path(), error);
  fs::remove(temporary, error);
  fs::create_symlink(target.lexically_relative(link.parent_path()), temporary, error);
  if (!error) fs::rename(temporary, link, error);
  if (!error) return;
  std::error_code ignored;
  fs::remove(temporary, ignored);
  throw Error(ErrorCode::weights_io_error, fmt::format("{}: can't be made: {}", link.string(), error.message()));
}

Pulled pull_from_hub(FetchTools tools, const HubName& name, const Credential& credential, FileSystem& files,
                     const fs::path& cache_root) {
  if (cache_root.empty()) {
    throw Error(ErrorCode::invalid_option, "no place for the hub's cache: neither HF_HOME nor HOME is set");
  }
  const Hub hub(tools.client, credential);
  const HubCache cache(files, cache_root);
  const HubRevision revision =
      while_busy({name.repository, tools.rules, tools.progress}, [&] { return hub.revision(name); });
  const std::vector<HubFile> chosen = choose_files(revision.files, name);
  const fs::path entry = cache.folder_of(name.repository);
  const fs::path snapshot = entry / "snapshots" / revision.commit;

  std::uint64_t missing = 0;
  for (const HubFile& file : chosen) missing += missing_bytes(entry / "blobs" / file.checksum, file.size_bytes);
  require_room(entry, missing);

  Pulled pulled;
  Downloader downloader(tools.client, credential, tools.rules, tools.progress);
  for (const HubFile& file : chosen) {
    const fs::path blob = entry / "blobs" / file.checksum;
    const FetchLock lock(cache_root / ".locks" / entry.filename() / (file.checksum + ".lock"),
                         [&] { tools.progress.note(file.path + ": another process fetches it; waiting for that"); });
    const bool here = is_here(blob, file.size_bytes);
    if (!here) downloader.fetch(hub.remote(name, revision.commit, file), blob);
    replace_link(snapshot / file.path, blob);
    pulled.files.push_back({file.path, file.size_bytes, !here});
  }
  if (!is_commit(name.revision)) write_ref(files, entry / "refs" / name.revision, revision.commit);
  pulled.commit = revision.commit;
  // One file was asked for or chosen, or a folder of them.
  pulled.path =
      chosen.size() == 1 && chosen.front().path.ends_with(".gguf") ? snapshot / chosen.front().path : snapshot;
  return pulled;
}

}  // namespace cortex

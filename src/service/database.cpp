#include "service/database.h"

#include <sqlite3.h>

#include <string>

namespace cortex {
namespace {

constexpr int kBusyTimeoutMs = 5000;

void require(int result, sqlite3* connection) {
  if (result != SQLITE_OK) throw DatabaseError(connection);
}

}  // namespace

DatabaseError::DatabaseError(sqlite3* connection)
    : std::runtime_error(std::string("SQLite: ") + sqlite3_errmsg(connection)),
      code_(sqlite3_errcode(connection) & 0xff) {}

bool DatabaseError::is_damage() const { return code_ == SQLITE_NOTADB || code_ == SQLITE_CORRUPT; }
bool DatabaseError::is_conflict() const { return code_ == SQLITE_CONSTRAINT; }

void Database::Close::operator()(sqlite3* connection) const { sqlite3_close(connection); }
void Statement::Finalize::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }

Database::Database(const std::filesystem::path& path) {
  sqlite3* connection = nullptr;
  const int result = sqlite3_open_v2(path.c_str(), &connection, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
  connection_.reset(connection);
  require(result, connection);
  sqlite3_busy_timeout(connection, kBusyTimeoutMs);
}

void Database::execute(const char* statements) {
  require(sqlite3_exec(connection_.get(), statements, nullptr, nullptr, nullptr), connection_.get());
}

Statement::Statement(Database& database, std::string_view sql) {
  sqlite3* connection = database.connection_.get();
  sqlite3_stmt* statement = nullptr;
  require(sqlite3_prepare_v2(connection, sql.data(), static_cast<int>(sql.size()), &statement, nullptr), connection);
  statement_.reset(statement);
}

Statement& Statement::bind(std::string_view text) {
  require(sqlite3_bind_text64(statement_.get(), ++bound_, text.data(), text.size(), SQLITE_TRANSIENT, SQLITE_UTF8),
          sqlite3_db_handle(statement_.get()));
  return *this;
}

Statement& Statement::bind(std::int64_t value) {
  require(sqlite3_bind_int64(statement_.get(), ++bound_, value), sqlite3_db_handle(statement_.get()));
  return *this;
}

Statement& Statement::bind_bytes(std::span<const std::byte> bytes) {
  require(sqlite3_bind_blob64(statement_.get(), ++bound_, bytes.data(), bytes.size(), SQLITE_TRANSIENT),
          sqlite3_db_handle(statement_.get()));
  return *this;
}

Statement& Statement::bind_null() {
  require(sqlite3_bind_null(statement_.get(), ++bound_), sqlite3_db_handle(statement_.get()));
  return *this;
}

bool Statement::step() {
  const int result = sqlite3_step(statement_.get());
  if (result == SQLITE_ROW) return true;
  if (result == SQLITE_DONE) return false;
  throw DatabaseError(sqlite3_db_handle(statement_.get()));
}

bool Statement::is_null(int column) const { return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL; }

std::string Statement::text(int column) const {
  const auto found = bytes(column);
  return {reinterpret_cast<const char*>(found.data()), found.size()};
}

std::span<const std::byte> Statement::bytes(int column) const {
  const void* bytes = sqlite3_column_blob(statement_.get(), column);
  const auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column));
  if (!bytes) return {};
  return {static_cast<const std::byte*>(bytes), size};
}

std::int64_t Statement::integer(int column) const { return sqlite3_column_int64(statement_.get(), column); }

Transaction::Transaction(Database& database) : database_(database) { database_.execute("BEGIN IMMEDIATE"); }

Transaction::~Transaction() {
  if (!open_) return;
  try {
    database_.execute("ROLLBACK");
  } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch): SQLite has rolled back by itself already
  }
}

void Transaction::commit() {
  database_.execute("COMMIT");
  open_ = false;
}

}  // namespace cortex

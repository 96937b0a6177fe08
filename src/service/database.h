// SQLite with exceptions: a connection and prepared statements, no more than conversations need. Everything here throws
// DatabaseError. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace cortex {

class DatabaseError : public std::runtime_error {
 public:
  explicit DatabaseError(sqlite3* connection);

  bool is_damage() const;    // the file is no database, or not any more
  bool is_conflict() const;  // what was inserted is there already

 private:
  int code_;  // SQLite's primary result code
};

class Database {
 public:
  // Opens or creates the file; ":memory:" keeps everything in memory.
  explicit Database(const std::filesystem::path& path);

  void execute(const char* statements);

 private:
  friend class Statement;
  struct Close {
    void operator()(sqlite3* connection) const;
  };
  std::unique_ptr<sqlite3, Close> connection_;
};

class Statement {
 public:
  Statement(Database& database, std::string_view sql);

  // Parameters are numbered from 1 in the order of the calls.
  Statement& bind(std::string_view text);
  Statement& bind(std::int64_t value);
  Statement& bind_bytes(std::span<const std::byte> bytes);
  Statement& bind_null();

  // True while there is a row to read.
  bool step();
  bool is_null(int column) const;
  std::string text(int column) const;
  std::span<const std::byte> bytes(int column) const;  // until the next step()
  std::int64_t integer(int column) const;

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  int bound_ = 0;
};

// Rolls back unless it was committed.
class Transaction {
 public:
  explicit Transaction(Database& database);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  void commit();

 private:
  Database& database_;
  bool open_ = true;
};

}  // namespace cortex

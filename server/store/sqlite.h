#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ithaca {

// The error of `connection` as a status: RESOURCE_EXHAUSTED for a full disk, ALREADY_EXISTS for a broken uniqueness,
// DATA_LOSS for a damaged file, UNAVAILABLE for all else. `doing` starts the sentence: "cannot write to /x/state.db".
absl::Status SqliteError(sqlite3* connection, const std::string& doing);

struct CloseSqlite {
  void operator()(sqlite3* connection) const { sqlite3_close_v2(connection); }
};
using SqliteConnection = std::unique_ptr<sqlite3, CloseSqlite>;

// Opens or makes a database file with WAL and synchronous=FULL: what is committed survives a power failure.
absl::StatusOr<SqliteConnection> OpenSqlite(const std::filesystem::path& path);

// Runs statements without parameters.
absl::Status Execute(sqlite3* connection, const std::string& sql);

// One prepared statement. Used by one thread; the connection outlives it. Errors stick: bind, then look at Step.
class Statement {
 public:
  Statement(sqlite3* connection, const char* sql);
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  // Binds the parameters in order, from the first.
  template <typename... Values>
  Statement& Bind(const Values&... values) {
    int index = 0;
    (BindOne(++index, values), ...);
    return *this;
  }
  Statement& BindBlob(int index, const std::string& bytes);

  // Whether there is a row.
  absl::StatusOr<bool> Step();
  // Steps to the end, ignoring rows.
  absl::Status Run();

  int64_t Integer(int column) const { return sqlite3_column_int64(statement_, column); }
  std::string Text(int column) const;  // also of blobs

 private:
  void BindOne(int index, int64_t value);
  void BindOne(int index, int value) { BindOne(index, static_cast<int64_t>(value)); }
  void BindOne(int index, const std::string& value);

  sqlite3* const connection_;
  sqlite3_stmt* statement_ = nullptr;
  int result_ = SQLITE_OK;
};

}  // namespace ithaca

#include "server/store/sqlite.h"

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "proto/status_macros.h"
#include "server/store/storage_error.h"

namespace ithaca {
namespace {

bool IsOutOfSpace(int error) { return error == ENOSPC || error == EDQUOT || error == EFBIG; }

// Whether the last failure of the database file or of its write-ahead log was for want of space. (SQLite itself only
// tells ENOSPC apart from other failures to write.)
bool RanOutOfSpace(sqlite3* connection) {
  if (IsOutOfSpace(sqlite3_system_errno(connection))) return true;
  for (const int which : {SQLITE_FCNTL_FILE_POINTER, SQLITE_FCNTL_JOURNAL_POINTER}) {
    sqlite3_file* file = nullptr;
    sqlite3_file_control(connection, "main", which, &file);
    if (file == nullptr || file->pMethods == nullptr) continue;
    int error = 0;
    file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &error);
    if (IsOutOfSpace(error)) return true;
  }
  return false;
}

}  // namespace

absl::Status SqliteError(sqlite3* connection, const std::string& doing) {
  const int code = sqlite3_extended_errcode(connection);
  const std::string message = absl::StrCat(doing, ": ", sqlite3_errmsg(connection));
  switch (code & 0xff) {
    case SQLITE_FULL:
      return StorageError(absl::StatusCode::kResourceExhausted, message);
    case SQLITE_IOERR:
      return RanOutOfSpace(connection)
                 ? StorageError(absl::StatusCode::kResourceExhausted,
                                absl::StrCat(message, " (the disk, quota or file size limit is full)"))
                 : StorageError(absl::StatusCode::kUnavailable, message);
    case SQLITE_CONSTRAINT:
      return StorageError(absl::StatusCode::kAlreadyExists, message);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return StorageError(absl::StatusCode::kDataLoss, message);
    default:
      return StorageError(absl::StatusCode::kUnavailable, message);
  }
}

absl::StatusOr<SqliteConnection> OpenSqlite(const std::filesystem::path& path) {
  sqlite3* raw = nullptr;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  const int result = sqlite3_open_v2(path.c_str(), &raw, flags, nullptr);
  SqliteConnection connection(raw);
  const std::string doing = absl::StrCat("cannot open ", path.string());
  if (raw == nullptr) return StorageError(absl::StatusCode::kUnavailable, doing);
  if (result != SQLITE_OK) return SqliteError(raw, doing);
  sqlite3_extended_result_codes(raw, 1);
  sqlite3_busy_timeout(raw, 5000);
  const absl::Status prepared = Execute(raw,
                                        "PRAGMA journal_mode=WAL;"
                                        "PRAGMA synchronous=FULL;"
                                        "PRAGMA foreign_keys=ON;");
  if (!prepared.ok()) return StorageError(prepared.code(), absl::StrCat(doing, ": ", std::string(prepared.message())));
  return connection;
}

absl::Status Execute(sqlite3* connection, const std::string& sql) {
  if (sqlite3_exec(connection, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK) return absl::OkStatus();
  const char* file = sqlite3_db_filename(connection, "main");
  return SqliteError(connection, absl::StrCat("cannot use ", file != nullptr ? file : "the database"));
}

Statement::Statement(sqlite3* connection, const char* sql) : connection_(connection) {
  result_ = sqlite3_prepare_v2(connection, sql, -1, &statement_, nullptr);
}

void Statement::BindOne(int index, int64_t value) {
  if (result_ == SQLITE_OK) result_ = sqlite3_bind_int64(statement_, index, value);
}

void Statement::BindOne(int index, const std::string& value) {
  if (result_ != SQLITE_OK) return;
  result_ = sqlite3_bind_text64(statement_, index, value.data(), value.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
}

Statement& Statement::BindBlob(int index, const std::string& bytes) {
  if (result_ == SQLITE_OK) {
    result_ = sqlite3_bind_blob64(statement_, index, bytes.data(), bytes.size(), SQLITE_TRANSIENT);
  }
  return *this;
}

absl::StatusOr<bool> Statement::Step() {
  if (result_ == SQLITE_OK) {
    const int stepped = sqlite3_step(statement_);
    if (stepped == SQLITE_ROW) return true;
    if (stepped == SQLITE_DONE) return false;
    result_ = stepped;
  }
  const char* file = sqlite3_db_filename(connection_, "main");
  return SqliteError(connection_, absl::StrCat("cannot use ", file != nullptr ? file : "the database"));
}

absl::Status Statement::Run() {
  while (true) {
    ASSIGN_OR_RETURN(const bool row, Step());
    if (!row) return absl::OkStatus();
  }
}

std::string Statement::Text(int column) const {
  const void* data = sqlite3_column_blob(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  return data == nullptr ? "" : std::string(static_cast<const char*>(data), size);
}

}  // namespace ithaca

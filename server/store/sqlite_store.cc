#include "server/store/sqlite_store.h"

#include <utility>

#include "proto/status_macros.h"
#include "server/store/sqlite_rows.h"

namespace ithaca {

absl::StatusOr<std::unique_ptr<SqliteStore>> SqliteStore::Open(const std::filesystem::path& path) {
  ASSIGN_OR_RETURN(SqliteConnection connection, OpenSqlite(path));
  RETURN_IF_ERROR(PrepareTables(connection.get()));
  return std::unique_ptr<SqliteStore>(new SqliteStore(std::move(connection)));
}

SqliteStore::SqliteStore(SqliteConnection connection) : connection_(std::move(connection)) {
  writer_ = std::thread([this] { Write(); });
}

SqliteStore::~SqliteStore() {
  {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
  }
  writer_.join();
}

absl::Status SqliteStore::Commit(WriteBatch batch) {
  Pending pending{std::move(batch), absl::OkStatus(), false};
  absl::MutexLock lock(&mutex_);
  queue_.push_back(&pending);
  mutex_.Await(absl::Condition(&pending.done));
  return pending.status;
}

absl::StatusOr<StoreContents> SqliteStore::Load() {
  absl::MutexLock lock(&connection_mutex_);
  return ReadRows(connection_.get());
}

int64_t SqliteStore::transactions() const {
  absl::MutexLock lock(&mutex_);
  return transactions_;
}

void SqliteStore::Write() {
  while (true) {
    std::deque<Pending*> group;
    {
      absl::MutexLock lock(&mutex_);
      const auto wanted = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return closing_ || !queue_.empty(); };
      mutex_.Await(absl::Condition(&wanted));
      if (queue_.empty()) return;
      group.swap(queue_);
    }
    absl::Status status;
    {
      absl::MutexLock lock(&connection_mutex_);
      status = WriteGroup(group);
    }
    absl::MutexLock lock(&mutex_);
    if (status.ok()) ++transactions_;
    for (Pending* pending : group) {
      if (!status.ok()) pending->status = status;
      pending->done = true;
    }
  }
}

// An error is that of the whole group; one of a single batch is left in it.
absl::Status SqliteStore::WriteGroup(std::deque<Pending*>& group) {
  sqlite3* const connection = connection_.get();
  RETURN_IF_ERROR(Execute(connection, "BEGIN IMMEDIATE"));
  absl::Status status;
  for (Pending* pending : group) {
    status = Execute(connection, "SAVEPOINT batch");
    if (!status.ok()) break;
    pending->status = WriteRows(connection, pending->batch);
    if (!pending->status.ok()) {
      // On a full disk and the like SQLite takes back the whole transaction by itself.
      status = sqlite3_get_autocommit(connection) != 0 ? pending->status : Execute(connection, "ROLLBACK TO batch");
    }
    if (status.ok()) status = Execute(connection, "RELEASE batch");
    if (!status.ok()) break;
  }
  if (status.ok()) status = Execute(connection, "COMMIT");
  if (!status.ok() && sqlite3_get_autocommit(connection) == 0) {
    (void)Execute(connection, "ROLLBACK");  // its own failure leaves nothing more to do; `status` says what happened
  }
  return status;
}

}  // namespace ithaca

#pragma once

#include <deque>
#include <filesystem>
#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/core/store.h"
#include "server/store/sqlite.h"

namespace ithaca {

// The store in one SQLite file. One thread of its own writes: it takes all batches that wait and commits them in one
// transaction (one sync to disk for all), then wakes their callers. A batch that fails alone does not fail the others.
// After a failed commit the store stays usable: every waiting caller gets the error, later ones may succeed again.
// Thread-safe. The destructor writes what waits; no call may come after it.
class SqliteStore : public Store {
 public:
  // UNAVAILABLE: cannot be opened; DATA_LOSS: damaged; FAILED_PRECONDITION: made by a newer version.
  static absl::StatusOr<std::unique_ptr<SqliteStore>> Open(const std::filesystem::path& path);
  ~SqliteStore() override;

  absl::Status Commit(WriteBatch batch) override;
  absl::StatusOr<StoreContents> Load() override;

  int64_t transactions() const;  // committed so far; fewer than batches if commits were grouped

 private:
  struct Pending {
    WriteBatch batch;
    absl::Status status;
    bool done = false;
  };

  explicit SqliteStore(SqliteConnection connection);
  void Write();
  absl::Status WriteGroup(std::deque<Pending*>& group) ABSL_EXCLUSIVE_LOCKS_REQUIRED(connection_mutex_);

  absl::Mutex connection_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
  SqliteConnection connection_ ABSL_GUARDED_BY(connection_mutex_);
  mutable absl::Mutex mutex_;
  std::deque<Pending*> queue_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t transactions_ ABSL_GUARDED_BY(mutex_) = 0;
  std::thread writer_;  // last: it uses all the others
};

}  // namespace ithaca

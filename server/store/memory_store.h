#pragma once

#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/core/store.h"

namespace ithaca {

// A store in memory, for tests: the same promises without a disk, and failures on demand. Thread-safe.
class MemoryStore : public Store {
 public:
  absl::Status Commit(WriteBatch batch) override;
  absl::StatusOr<StoreContents> Load() override;

  // Commits fail with this until it is OK again.
  void FailWith(absl::Status status);
  int commits() const;

 private:
  mutable absl::Mutex mutex_;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  int commits_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, JobRecord> jobs_ ABSL_GUARDED_BY(mutex_);
  std::map<std::pair<std::string, int>, AttemptRecord> attempts_ ABSL_GUARDED_BY(mutex_);
  std::map<std::pair<std::string, int64_t>, StateEvent> events_ ABSL_GUARDED_BY(mutex_);
  std::map<std::tuple<std::string, int64_t, bool>, CheckpointRecord> checkpoints_ ABSL_GUARDED_BY(mutex_);
  std::map<std::pair<std::string, std::string>, RequestKey> request_keys_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ithaca

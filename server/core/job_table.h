#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "server/core/attempt_files.h"
#include "server/core/clock.h"
#include "server/core/live_state.h"
#include "server/core/records.h"
#include "server/core/scheduler.h"
#include "server/core/store.h"

namespace ithaca {

// All that is known of a job.
struct JobEntry {
  JobRecord record;
  std::map<int, AttemptRecord> attempts;
  std::vector<StateEvent> events;
  std::vector<CheckpointRecord> checkpoints;
  Cause queue_cause;      // QUEUED: why it waits; not stored
  LiveState live;         // of the newest attempt, while it is open
  uint64_t version = 0;   // rises with every change of what Get returns
  uint64_t activity = 0;  // rises with that and with every append to the files

  AttemptRecord* newest();
  const AttemptRecord* newest() const;
};

// The job as users see it: the record, with what is live.
v1::Job Compose(const JobEntry& entry);

// A change of one job: edit the copies, and it is committed and then takes effect.
struct JobChange {
  JobRecord job;
  std::optional<AttemptRecord> attempt;       // the newest; replace it by one with a higher number to open an attempt
  std::vector<CheckpointRecord> checkpoints;  // to add
  bool unchanged = false;                     // leave everything as it is after all
};

// For gauges: a job that is not terminal, or has not been for long.
struct LiveJob {
  v1::Job job;
  v1::StepMetrics last_step;
  int64_t steps_total = 0;  // of the open attempt
  int64_t tokens_total = 0;
};

struct SlotUse {
  v1::DeviceKind device;
  int total = 0;
  int used = 0;
};

// The jobs in memory, in step with the store: a change is committed first and then becomes visible, under the check of
// the state table. Shared by Registry, WorkerHub, Reconciler and History; thread-safe. Two locks: one for changes, held
// over a commit, so that each job's changes are in one order; one for the memory, held briefly. Store, files and clock
// outlive it.
class JobTable {
 public:
  JobTable(Store& store, AttemptFiles& files, const Clock& clock, std::vector<Node> nodes);

  // Loads what is stored, rebuilds the live state of open attempts, removes files of deleted jobs. Before all else.
  absl::Status Recover();

  // --- Reading -------------------------------------------------------------------------------------------------------
  absl::StatusOr<v1::Job> Get(const std::string& job_id) const;
  // Calls `read` with the entry under the lock; JOB_NOT_FOUND if there is none.
  absl::Status Read(const std::string& job_id, absl::FunctionRef<void(const JobEntry&)> read) const;
  // Newest first, those with a smaller sequence than `before`, while `take` returns true.
  void ReadDown(int64_t before, absl::FunctionRef<bool(const JobEntry&)> take) const;
  std::optional<RequestKey> FindRequest(const std::string& owner, const std::string& request_id) const;
  ClusterView View() const;
  const std::vector<Node>& nodes() const { return nodes_; }
  // Jobs that are not terminal, or ended less than `hold` ago.
  std::vector<LiveJob> Live(absl::Duration hold) const;
  std::vector<SlotUse> Slots() const;
  const std::string& epoch() const { return epoch_; }  // differs between runs of the coordinator

  // --- Changing ------------------------------------------------------------------------------------------------------
  // Stores a new job, and with it its request key if that is not empty; fills in the sequence. If the key is taken,
  // returns the key's job and stores nothing.
  absl::StatusOr<v1::Job> Insert(JobRecord record, const std::optional<RequestKey>& key);
  // Commits what `edit` makes of the job. An error of `edit` is returned, and nothing changes.
  absl::StatusOr<v1::Job> Update(const std::string& job_id, absl::FunctionRef<absl::Status(JobChange&)> edit);
  absl::Status Remove(const std::string& job_id, absl::FunctionRef<absl::Status(const JobRecord&)> check);
  // Edits the live state of an open attempt under the lock; reason ATTEMPT_FENCED if it is not the newest or has ended.
  // Watchers are told of it, the reconciler is not (Wake).
  absl::Status WithLive(const AttemptKey& key, absl::FunctionRef<absl::Status(JobEntry&)> edit);
  // The same for every open attempt.
  void ForEachOpen(absl::FunctionRef<void(JobEntry&)> edit);
  // Why a queued job waits; not stored.
  void SetQueueCauses(const std::map<std::string, Cause>& causes);

  // --- Waiting -------------------------------------------------------------------------------------------------------
  // For the reconciler's thread: returns at `deadline` or when Wake was called since the last return.
  void WaitForWake(absl::Time deadline);
  void Wake();
  // Returns when the job's activity differs from `seen` (or the job is gone), or after `timeout`; then its activity.
  uint64_t WaitForActivity(const std::string& job_id, uint64_t seen, absl::Duration timeout) const;
  uint64_t Activity(const std::string& job_id) const;
  // Calls `changed` after every activity of the job, with locks held: it may only signal. Ends with the handle.
  std::shared_ptr<void> Subscribe(const std::string& job_id, std::function<void()> changed);

 private:
  struct Subscriber {
    std::string job_id;
    std::function<void()> changed;
  };
  using RequestId = std::pair<std::string, std::string>;  // owner, request id

  absl::Status Replay(JobEntry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<JobEntry*> Find(const std::string& job_id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<const JobEntry*> Find(const std::string& job_id) const ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<JobChange> Copy(const std::string& job_id) const ABSL_LOCKS_EXCLUDED(mutex_);
  void Apply(const WriteBatch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Index(const JobRecord& record) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Bump(JobEntry& entry, bool job_changed) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Store& store_;
  AttemptFiles& files_;
  const Clock& clock_;
  const std::vector<Node> nodes_;
  std::string epoch_;

  absl::Mutex change_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
  mutable absl::Mutex mutex_;
  std::map<std::string, JobEntry> jobs_ ABSL_GUARDED_BY(mutex_);
  std::map<int64_t, std::string> by_sequence_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> unfinished_ ABSL_GUARDED_BY(mutex_);  // jobs that are not terminal
  std::map<RequestId, RequestKey> requests_ ABSL_GUARDED_BY(mutex_);
  std::set<RequestId> requests_in_flight_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, Subscriber> subscribers_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_subscriber_ ABSL_GUARDED_BY(mutex_) = 1;
  int64_t next_sequence_ ABSL_GUARDED_BY(mutex_) = 1;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace ithaca

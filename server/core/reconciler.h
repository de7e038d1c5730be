#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/core/attempt_files.h"
#include "server/core/clock.h"
#include "server/core/job_table.h"
#include "server/core/launcher.h"
#include "server/core/scheduler.h"

namespace ithaca {

// Carries out what the scheduler decides, store first: the intent is committed, then the side effect happens, then its
// result is committed. Whatever a crash interrupts, the next Tick of the next coordinator finds in the store and goes
// on with. Used by one thread, which calls Tick when JobTable::WaitForWake returns. It alone starts and ends attempts.
// The table, files, launcher and clock outlive it.
//
// An error of a Tick (a full disk, say) leaves jobs as they were; the next Tick tries again.
class Reconciler {
 public:
  struct Options {
    SchedulerOptions scheduler;
  };

  Reconciler(JobTable& table, AttemptFiles& files, Launcher& launcher, const Clock& clock, Options options);

  // Looks at everything once. Returns when to look again at the latest if nothing wakes it before.
  absl::Time Tick();

  // First error of the last Tick, OK if it had none; for the log and the status page.
  const absl::Status& last_error() const { return last_error_; }

 private:
  // A worker of an attempt, by its node.
  struct WorkerKey {
    AttemptKey attempt;
    int node = 0;

    auto operator<=>(const WorkerKey&) const = default;
  };

  struct OpenAttemptCopy {
    JobRecord job;
    AttemptRecord attempt;
    bool launch_failed = false;
  };

  bool Observe();  // asks the launcher about every open attempt; whether there is one
  absl::Status ObserveAttempt(const OpenAttemptCopy& copy);
  void MarkGone(const AttemptRecord& attempt, int node, const std::string& detail);

  absl::Status Carry(const std::string& job_id, const StartAttempt& step);
  absl::Status Carry(const std::string& job_id, const MarkRunning& step);
  absl::Status Carry(const std::string& job_id, const BeginStop& step);
  absl::Status Carry(const std::string& job_id, const SendStop& step);
  absl::Status Carry(const std::string& job_id, const KillWorkers& step);
  absl::Status Carry(const std::string& job_id, const EndAttempt& step);
  absl::Status Carry(const std::string& job_id, const Requeue& step);

  void OpenAttempt(const std::vector<NodePlacement>& placement, JobChange& change) const;
  absl::Status Launch(const JobRecord& job, const AttemptRecord& attempt);
  absl::Status PrepareDirectory(const JobRecord& job, const AttemptRecord& attempt);
  absl::StatusOr<WorkerProcess> FindOrStart(const JobRecord& job, const AttemptRecord& attempt, int node);
  absl::Status StoreProcesses(const AttemptKey& key);
  absl::Status WithOpen(const std::string& job_id, absl::FunctionRef<void(JobEntry&)> edit);
  void CloseAttempt(const JobEntry& entry, JobChange& change) const;
  void Note(const absl::Status& status);

  JobTable& table_;
  AttemptFiles& files_;
  Launcher& launcher_;
  const Clock& clock_;
  const Options options_;
  const absl::Time started_;                     // attempts launched until then are an earlier coordinator's
  ClusterView view_;                             // of this Tick
  std::map<WorkerKey, WorkerProcess> unstored_;  // started by this coordinator, not committed yet
  absl::Status last_error_;
};

}  // namespace ithaca

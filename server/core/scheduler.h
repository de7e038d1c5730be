#pragma once

#include <map>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "server/core/records.h"

namespace ithaca {

// Slots of one kind on one node.
struct DevicePool {
  v1::DeviceKind device = v1::DEVICE_KIND_CPU;
  std::string device_name;  // "NVIDIA H100 80GB HBM3", "cpu"
  int slots = 0;
  int64_t bytes_per_slot = 0;  // memory one rank may use; 0: not known
  int64_t host_bytes_per_slot = 0;
  int threads_per_slot = 0;  // what one rank may use; 0: the engine decides
};

struct Node {
  std::string name;
  std::vector<DevicePool> pools;
};

// What a worker's attempt looks like from here.
struct AttemptView {
  int number = 0;
  std::vector<NodePlacement> placement;
  absl::Time launch_time = absl::InfinitePast();
  absl::Time running_time = absl::InfiniteFuture();
  bool all_ready = false;  // every rank reported ready
  bool all_ended = false;  // every worker said that all its engines ended, or is gone
  bool lost = false;       // a worker is gone that did not say so
  bool failed = false;     // an engine exited badly, or a worker said so; `failure` says why
  Cause failure;
  bool attached = false;                               // all its workers have a stream to here
  absl::Time last_attached = absl::InfiniteFuture();   // when the last of them was lost, if not attached
  absl::Time last_heartbeat = absl::InfiniteFuture();  // of the rank silent longest; infinite: none runs yet
  std::string silent_rank;                             // "rank 3 on host n1", for the sentence
  bool stop_sent = false;
  bool kill_sent = false;
};

// What the scheduler sees of a job.
struct JobView {
  std::string id;
  std::string name;
  int64_t sequence = 0;
  int priority = 0;
  v1::JobState state = v1::JOB_STATE_QUEUED;
  v1::JobReason reason = v1::JOB_REASON_UNSPECIFIED;
  Demand demand;
  v1::RestartSpec restart;
  v1::LimitsSpec limits;
  absl::Time not_before = absl::InfinitePast();
  absl::Time stop_deadline = absl::InfiniteFuture();
  absl::Duration run_time;           // of ended attempts
  std::vector<absl::Time> failures;  // ends of attempts that failed by SYSTEM or HARDWARE, oldest first
  AttemptView attempt;               // meaningful while HoldsSlots(state)
};

// A snapshot of all that decisions depend on.
struct ClusterView {
  std::vector<Node> nodes;
  std::vector<JobView> jobs;  // all that are not terminal
};

struct SchedulerOptions {
  absl::Duration worker_lease = absl::Minutes(5);   // how long a live worker may stay away before it counts as lost
  absl::Duration hang_timeout = absl::Minutes(10);  // silence of an engine whose worker is attached
  absl::Duration stop_grace = absl::Seconds(30);    // given to engines of an attempt that failed or ran out of time
  absl::Duration kill_slack = absl::Seconds(5);     // after the grace, before the launcher kills
  absl::Duration max_backoff = absl::Minutes(30);
};

// What to do about one job.
struct StartAttempt {  // QUEUED -> STARTING
  std::vector<NodePlacement> placement;
};
struct MarkRunning {};  // STARTING -> RUNNING
struct BeginStop {      // STARTING, RUNNING -> STOPPING
  Cause cause;
  absl::Duration grace;
};
struct SendStop {};     // tell the workers
struct KillWorkers {};  // the grace is over
struct EndAttempt {     // no process is left; DecideEnd says what the job becomes
  bool lost = false;    // the processes went without saying how
};
struct Requeue {};  // BACKOFF -> QUEUED

using Step = std::variant<StartAttempt, MarkRunning, BeginStop, SendStop, KillWorkers, EndAttempt, Requeue>;

struct Action {
  std::string job_id;
  Step step;
};

struct Schedule {
  std::vector<Action> actions;                        // at most one per job, in the order to carry them out
  std::map<std::string, Cause> queued;                // why each QUEUED job that is not started waits
  absl::Time next_deadline = absl::InfiniteFuture();  // when to look again if nothing happens before
};

// What to start, stop or leave, and why. Pure: same view, time and options, same answer.
//
// Gang admission: a job starts when all its slots are free at once, in order of priority, then arrival. The first job
// that does not fit blocks those after it that want the same kind of device: without an upper bound on how long jobs
// run, letting small ones pass would starve a large one for ever. A job that asks for more than there is blocks nobody.
Schedule Decide(const ClusterView& view, absl::Time now, const SchedulerOptions& options);

// Whether the demand fits the nodes when they are empty; INVALID_ARGUMENT's sentence if not, else empty.
std::string WhyNeverFits(const Demand& demand, const std::vector<Node>& nodes);

// What becomes of a job whose attempt has ended.
struct EndDecision {
  v1::JobState state = v1::JOB_STATE_FAILED;
  Cause cause;
  absl::Time not_before = absl::InfinitePast();  // BACKOFF
};

// `outcome` is how the attempt ended: COMPLETED, CANCEL_REQUESTED, PAUSE_REQUESTED or a failure. A failure blamed on
// the USER is final. One blamed on SYSTEM or HARDWARE is forgiven restart.max_restarts times within
// restart.window_seconds and waits backoff_seconds, doubled by each failure in the window. `job.failures` does not
// contain this one yet.
EndDecision DecideEnd(const JobView& job, const Cause& outcome, absl::Time now, const SchedulerOptions& options);

}  // namespace ithaca

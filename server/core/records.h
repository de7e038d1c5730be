#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "ithaca/v1/job.pb.h"
#include "server/core/job_state.h"

namespace ithaca {

// Slots of one kind that a job needs, all at once.
struct Demand {
  v1::DeviceKind device = v1::DEVICE_KIND_CPU;
  int nodes = 1;
  int slots_per_node = 1;

  int slots() const { return nodes * slots_per_node; }
};

// Where one worker of an attempt runs: rank r of this node uses devices[r - first rank of the node].
struct NodePlacement {
  std::string node;
  v1::DeviceKind device = v1::DEVICE_KIND_CPU;
  std::vector<int> slots;  // indices of the node's slots of that kind; for cuda, device indices
};

// Identity of a worker that outlives the coordinator. `pid` and `pid_start_time` on a host, `reference` where a cluster
// manager runs it (then pid is 0). All zero and empty: not started, or started but not stored yet.
struct WorkerProcess {
  std::string host;
  int64_t pid = 0;
  uint64_t pid_start_time = 0;  // clock ticks since boot, field 22 of /proc/PID/stat
  std::string reference;

  bool known() const { return pid != 0 || !reference.empty(); }
  bool operator==(const WorkerProcess&) const = default;
};

// A job as stored. `job` carries no live data while the job holds slots (progress, ranks, checkpoints are filled in
// from the attempt's files and the checkpoint table); when an attempt ends its last progress and ranks are stored with
// it.
struct JobRecord {
  v1::Job job;
  int64_t sequence = 0;  // order of arrival, from 1
  Demand demand;
  absl::Time not_before = absl::InfinitePast();       // BACKOFF: when it is queued again
  absl::Time stop_deadline = absl::InfiniteFuture();  // STOPPING: when what is left is killed
  absl::Duration stop_grace;                          // STOPPING: what the engines were given
  absl::Duration run_time;                            // RUNNING, over all ended attempts
};

// One attempt at running a job; its number fences the ones before it.
struct AttemptRecord {
  std::string job_id;
  int number = 0;     // from 1
  std::string token;  // secret of its workers; erased when it ends
  std::vector<NodePlacement> placement;
  std::vector<WorkerProcess> workers;  // by node of the placement
  absl::Time launch_time = absl::InfinitePast();
  absl::Time running_time = absl::InfiniteFuture();  // when every rank was ready
  absl::Time end_time = absl::InfiniteFuture();      // when its processes were gone
  Cause cause;                                       // of its end

  bool ended() const { return end_time != absl::InfiniteFuture(); }
};

// A change of state, part of the job's history.
struct StateEvent {
  std::string job_id;
  int64_t number = 0;  // from 1, by job
  absl::Time time;
  int attempt = 0;
  v1::JobState state = v1::JOB_STATE_UNSPECIFIED;
  Cause cause;
};

// Which job a request id made.
struct RequestKey {
  std::string owner;
  std::string request_id;
  std::string job_id;
};

struct CheckpointRecord {
  std::string job_id;
  v1::Checkpoint checkpoint;
  bool is_export = false;  // the Hugging Face directory, not a checkpoint to resume from
};

// Whether both are the same one, written by the same attempt.
bool SameCheckpoint(const CheckpointRecord& a, const CheckpointRecord& b);

}  // namespace ithaca

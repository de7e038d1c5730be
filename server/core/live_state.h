#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "ithaca/v1/job.pb.h"
#include "ithaca/v1/job_service.pb.h"
#include "ithaca/v1/worker_service.pb.h"
#include "server/core/attempt_files.h"
#include "server/core/records.h"
#include "server/core/scheduler.h"

namespace ithaca {

class WorkerLink;

// A rank of the open attempt, as last heard.
struct RankLive {
  v1::RankStatus status;
  bool ready = false;
  absl::Time last_heard = absl::InfiniteFuture();  // infinite: never
  std::optional<v1::EngineExit> exit;
};

// A worker of the open attempt.
struct WorkerLive {
  std::shared_ptr<WorkerLink> link;              // null: not attached
  uint64_t link_id = 0;                          // of the newest stream
  absl::Time detached = absl::InfiniteFuture();  // when the last stream was lost; infinite: never had one
  bool done = false;                             // said that all its engines ended
  bool gone = false;                             // the launcher finds nothing of it
  std::string gone_detail;                       // how it ended
};

// What is known of a job's newest attempt beyond its records: kept in memory, rebuilt from the attempt's files and the
// workers' hellos after a restart. Guarded by the JobTable's lock.
struct LiveState {
  v1::Progress progress;
  v1::StepMetrics last_step;
  int64_t steps_total = 0;  // reported by this attempt
  int64_t tokens_total = 0;
  int64_t first_step = 0;  // the first this attempt did; 0: none yet
  double mean_step_seconds = 0;
  std::string export_path;
  std::vector<RankLive> ranks;                        // of the whole world, by rank
  std::vector<WorkerLive> workers;                    // by node of the placement
  std::vector<CheckpointRecord> unsaved_checkpoints;  // reported, not committed yet
  std::optional<v1::Listening> rendezvous;
  std::optional<Cause> reported_failure;              // that no exit explains: launch failed
  absl::Time opened = absl::InfinitePast();           // when this coordinator took the attempt up
  absl::Time stop_time = absl::InfiniteFuture();      // when the workers were first told to stop; infinite: not yet
  absl::Time told_deadline = absl::InfiniteFuture();  // the deadline they were last told of
  bool kill_sent = false;
};

// An empty state for an attempt with this placement.
LiveState NewLiveState(const std::vector<NodePlacement>& placement, absl::Time now);

// Takes in an engine's event: progress, readiness, phase. A line that is no JSON object changes nothing. Returns the
// checkpoint or export it reports, if it does.
std::optional<CheckpointRecord> ApplyEvent(const AttemptKey& key, const EngineEventRecord& event, LiveState& live);
void ApplyHeartbeat(const v1::Heartbeat& heartbeat, absl::Time now, LiveState& live);

// The file an event belongs to, by its kind; kEvents if it is no JSON object.
EventFile FileOf(const EngineEventRecord& event);

bool AllReady(const LiveState& live);       // every rank is
bool AllEnded(const LiveState& live);       // every worker said done, or is gone
bool AnyWorkerLost(const LiveState& live);  // a worker is gone that did not say done

// First rank of a node; ranks are numbered node by node.
int FirstRank(const std::vector<NodePlacement>& placement, int node_index);

// The engine's `step` or `eval` event as the public message; nothing if it is neither.
std::optional<v1::StreamMetricsResponse> MetricsOf(const EngineEventRecord& event);

}  // namespace ithaca

#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ithaca/v1/worker_service.pb.h"
#include "server/core/attempt_files.h"
#include "server/core/clock.h"
#include "server/core/job_table.h"

namespace ithaca {

// A stream to a worker, implemented by server/rpc. Send queues a message in order and never blocks, waits or calls back
// into core: it is called with core's locks held. After the stream is gone it does nothing.
class WorkerLink {
 public:
  virtual ~WorkerLink() = default;
  virtual void Send(const v1::CoordinatorMessage& message) = 0;
};

// What workers can do: one method per message of WorkerService, with its errors and reasons. It appends what engines
// report to the attempt's files, keeps the live state of jobs, and wakes the reconciler, which alone ends attempts.
// Thread-safe; blocks on appends and (checkpoints, first attach) commits. Table, files and clock outlive it.
//
// Records that a worker sends twice are dropped by (attempt, rank, offset). Whatever is not stored (listening, engine
// exits, done) the worker says again after each hello.
class WorkerHub {
 public:
  WorkerHub(JobTable& table, AttemptFiles& files, const Clock& clock);

  // Who speaks on a stream.
  struct Session {
    AttemptKey attempt;
    int node_index = 0;
    uint64_t link_id = 0;
  };

  // First message of a stream. Sends assignment and ack (and rendezvous, stop if they apply) on the link. An older
  // stream of the same worker is replaced: nothing is sent on it any more. FAILED_PRECONDITION reason ATTEMPT_FENCED:
  // the attempt is not the newest or has ended; the worker must end its engines. PERMISSION_DENIED reason WRONG_TOKEN.
  // UNAVAILABLE: try again.
  absl::StatusOr<Session> Attach(const v1::Hello& hello, std::shared_ptr<WorkerLink> link);

  // Any later message. FAILED_PRECONDITION reason ATTEMPT_FENCED as above. RESOURCE_EXHAUSTED, UNAVAILABLE: the batch
  // was stored in part or not; keep the stream and the worker's copy, what is not acknowledged has to come again.
  absl::Status Handle(const Session& session, const v1::WorkerMessage& message);

  // The stream is gone. The worker may come back within the lease.
  void Detach(const Session& session);

  // The coordinator goes away: tells every worker to keep its engines and attach again.
  void DetachAll();

 private:
  absl::StatusOr<int> Claim(const v1::Hello& hello);
  absl::Status HandleExit(const Session& session, const v1::EngineExit& exit);
  absl::Status HandleBatch(const Session& session, const v1::Batch& batch);
  absl::Status Append(const AttemptKey& key, const v1::Batch& batch, std::vector<EngineEventRecord>& fresh);
  void Apply(const AttemptKey& key, const std::vector<EngineEventRecord>& fresh, const v1::Batch& batch,
             LiveState& live);
  absl::Status SaveCheckpoints(const AttemptKey& key);

  JobTable& table_;
  AttemptFiles& files_;
  const Clock& clock_;
};

}  // namespace ithaca

#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "ithaca/v1/worker_service.pb.h"
#include "worker/agent/coordinator_link.h"
#include "worker/agent/engine_process.h"
#include "worker/agent/engine_stream.h"
#include "worker/agent/options.h"
#include "worker/agent/spool.h"

namespace ithaca {

// A worker: runs the engines of one job attempt on one host.
//
//   attach -> assignment -> start rank 0 -> its `listening` -> start the others -> relay events, logs, heartbeats
//          -> all engines ended -> result.json -> everything acknowledged -> `finish` -> exit
//
// One thread, the caller of Run, starts, watches and ends the engines: their parent-death signal follows it. The link
// has threads of its own and talks to this one through a queue. The engines depend on the worker; the worker does not
// depend on the coordinator: without one, training goes on and records wait in the spool. Engines are ended when the
// coordinator says so, when it refuses this worker (a newer attempt exists), when the worker gets SIGTERM or SIGINT, or
// when one of them has failed and the others do not follow.
class Agent {
 public:
  explicit Agent(AgentOptions options);
  ~Agent();

  // Runs to the end. OK when the coordinator has everything. FAILED_PRECONDITION when it refused this worker;
  // UNAVAILABLE when nothing could be set up, or nobody came for the result in `linger`. Blocks SIGTERM and SIGINT for
  // the calling thread and those it starts.
  absl::Status Run();

 private:
  struct Rank {
    std::unique_ptr<EngineProcess> process;  // empty until started
    EngineStream stream;
    std::string failed_json;
    bool ended = false;
  };

  absl::Status SetUp();
  v1::Hello MakeHello() const;
  void PollOnce();

  void TakeSignals();
  void TakeMessages();
  void Handle(const v1::CoordinatorMessage& message);
  void Assign(const v1::Assignment& assignment);
  void StartAll(const std::string& master_address, int master_port);
  void StartRank(int number, const std::string& master_address, int master_port);

  // Relays what the events pipe holds; false when it was empty.
  bool ReadEvents(int number, Rank& rank);
  void RankEnded(int number, Rank& rank, const ProcessEnd& end);
  void StartFailed(int number, Rank& rank, const absl::Status& why);
  void ReportExit(int number, Rank& rank, v1::EngineExit exit);
  void StopEngines(bool save, absl::Duration grace);
  void KillEngines();
  void EnforceDeadline();
  bool AllEnded() const;

  const AgentOptions options_;
  Spool spool_;
  int signal_fd_ = -1, queue_fd_ = -1;

  std::optional<v1::Assignment> assignment_;
  std::map<int, Rank> ranks_;
  std::vector<v1::EngineExit> exits_;
  bool stopping_ = false;  // no more engines are started
  bool done_ = false;      // all engines have ended and it was said
  bool finished_ = false;  // the coordinator wants nothing more
  absl::Time kill_time_ = absl::InfiniteFuture();
  absl::Time leave_time_ = absl::InfiniteFuture();

  absl::Mutex mutex_;
  std::deque<v1::CoordinatorMessage> queue_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> refused_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<CoordinatorLink> link_;  // last: its threads use what is above
};

// How long to poll with `left` until the next deadline, in milliseconds: past it, and at most a minute.
int PollMilliseconds(absl::Duration left);

}  // namespace ithaca

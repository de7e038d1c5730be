#include "server/core/worker_hub.h"

#include <algorithm>
#include <map>
#include <optional>

#include "absl/strings/str_cat.h"
#include "proto/errors.h"
#include "proto/status_macros.h"
#include "server/core/identifiers.h"
#include "server/core/job_edit.h"
#include "server/core/run_file.h"

namespace ithaca {
namespace {

absl::Status Fenced(const std::string& message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, "ATTEMPT_FENCED", message);
}

bool Is(const WorkerProcess& process, const v1::Hello& hello) {
  return process.pid == hello.pid() && process.pid_start_time == hello.pid_start_time() && process.pid != 0;
}

// Which node of the placement the worker is: the one it was before, else the first that nobody has claimed.
std::optional<int> NodeOf(const AttemptRecord& attempt, const v1::Hello& hello) {
  for (size_t node = 0; node < attempt.workers.size(); ++node) {
    if (Is(attempt.workers[node], hello)) return static_cast<int>(node);
  }
  for (size_t node = 0; node < attempt.workers.size(); ++node) {
    if (attempt.workers[node].pid == 0) return static_cast<int>(node);
  }
  return std::nullopt;
}

v1::CoordinatorMessage AssignmentOf(const JobEntry& entry, int node_index, const std::string& run_json) {
  const AttemptRecord& attempt = *entry.newest();
  const NodePlacement& node = attempt.placement[node_index];
  const v1::LimitsSpec& limits = entry.record.job.spec().limits();
  v1::CoordinatorMessage message;
  v1::Assignment& assignment = *message.mutable_assignment();
  assignment.set_run_json(run_json);
  assignment.set_world_size(static_cast<int>(entry.live.ranks.size()));
  assignment.set_start_seconds(limits.has_start_seconds() ? limits.start_seconds() : 600);
  const int first = FirstRank(attempt.placement, node_index);
  for (size_t local = 0; local < node.slots.size(); ++local) {
    v1::RankAssignment& rank = *assignment.add_ranks();
    rank.set_rank(first + static_cast<int>(local));
    rank.set_local_rank(static_cast<int>(local));
    if (node.device == v1::DEVICE_KIND_CUDA) rank.add_devices(node.slots[local]);
  }
  return message;
}

// Ranks [begin, end) of a worker.
struct RankRange {
  int begin = 0;
  int end = 0;

  bool Contains(int rank) const { return begin <= rank && rank < end; }
};

RankRange RanksOf(const AttemptRecord& attempt, int node_index) {
  return {FirstRank(attempt.placement, node_index), FirstRank(attempt.placement, node_index + 1)};
}

absl::Status CheckRanks(const v1::Batch& batch, const RankRange& ranks) {
  const auto foreign = [&](const auto& item) { return !ranks.Contains(item.rank()); };
  if (std::ranges::any_of(batch.events(), foreign) || std::ranges::any_of(batch.logs(), foreign) ||
      std::ranges::any_of(batch.heartbeats(), foreign)) {
    return absl::InvalidArgumentError("a worker speaks for its own ranks only");
  }
  return absl::OkStatus();
}

v1::CoordinatorMessage AckOf(const std::map<int, RankPositions>& positions, const RankRange& ranks) {
  v1::CoordinatorMessage message;
  v1::Ack& ack = *message.mutable_ack();
  for (const auto& [rank, position] : positions) {
    if (!ranks.Contains(rank)) continue;
    v1::RankOffsets& offsets = *ack.add_ranks();
    offsets.set_rank(rank);
    offsets.set_event_offset(position.event_offset);
    offsets.set_log_offset(position.log_offset);
  }
  return message;
}

v1::CoordinatorMessage RendezvousOf(const v1::Listening& listening) {
  v1::CoordinatorMessage message;
  message.mutable_rendezvous()->set_host(listening.host());
  message.mutable_rendezvous()->set_port(listening.port());
  return message;
}

// The worker of a session if it still speaks on that stream.
absl::StatusOr<WorkerLive*> WorkerOf(JobEntry& entry, const WorkerHub::Session& session) {
  WorkerLive& worker = entry.live.workers[session.node_index];
  if (worker.link_id != session.link_id) return absl::AbortedError("the worker has opened another stream since");
  return &worker;
}

}  // namespace

WorkerHub::WorkerHub(JobTable& table, AttemptFiles& files, const Clock& clock)
    : table_(table), files_(files), clock_(clock) {}

// Checks the worker and stores which process it is, unless that is stored already.
absl::StatusOr<int> WorkerHub::Claim(const v1::Hello& hello) {
  std::optional<int> node;
  const auto claim = [&](JobChange& change) -> absl::Status {
    if (!change.attempt || change.attempt->number != hello.attempt() || change.attempt->ended()) {
      return Fenced(absl::StrCat("attempt ", hello.attempt(), " of job ", hello.job_id(), " is over"));
    }
    if (!SameSecret(change.attempt->token, hello.token())) {
      return MakeError(absl::StatusCode::kPermissionDenied, "WRONG_TOKEN", "the token is not that of the attempt");
    }
    node = NodeOf(*change.attempt, hello);
    if (!node) return Fenced("other workers have taken all places of the attempt");
    WorkerProcess& process = change.attempt->workers[*node];
    change.unchanged = Is(process, hello);
    process.host = hello.host();
    process.pid = hello.pid();
    process.pid_start_time = hello.pid_start_time();
    v1::Job& job = change.job.job;
    if (job.state() == v1::JOB_STATE_STARTING && job.reason() == v1::JOB_REASON_LAUNCHING) {
      change.unchanged = false;
      SetCause(job, {v1::JOB_REASON_LOADING, v1::BLAME_UNSPECIFIED, "workers are attached; ranks are loading"});
    }
    return absl::OkStatus();
  };
  const absl::Status status = table_.Update(hello.job_id(), claim).status();
  if (absl::IsNotFound(status)) return Fenced(absl::StrCat("there is no job ", hello.job_id()));
  RETURN_IF_ERROR(status);
  return *node;
}

absl::StatusOr<WorkerHub::Session> WorkerHub::Attach(const v1::Hello& hello, std::shared_ptr<WorkerLink> link) {
  const AttemptKey key{hello.job_id(), hello.attempt()};
  ASSIGN_OR_RETURN(const int node_index, Claim(hello));
  ASSIGN_OR_RETURN(const auto directory, files_.MakeDirectory(key));
  ASSIGN_OR_RETURN(const std::string run_json, ReadRunFile(directory));
  ASSIGN_OR_RETURN(const auto positions, files_.Positions(key));
  Session session{key, node_index, 0};
  RETURN_IF_ERROR(table_.WithLive(key, [&](JobEntry& entry) {
    LiveState& live = entry.live;
    WorkerLive& worker = live.workers[node_index];
    worker.link = link;
    session.link_id = ++worker.link_id;
    for (const v1::Engine& engine : hello.engines()) {
      if (engine.rank() < 0 || engine.rank() >= static_cast<int>(live.ranks.size())) continue;
      live.ranks[engine.rank()].status.set_pid(engine.pid());
    }
    if (hello.has_listening()) live.rendezvous = hello.listening();
    link->Send(AssignmentOf(entry, node_index, run_json));
    link->Send(AckOf(positions, RanksOf(*entry.newest(), node_index)));
    if (live.rendezvous && node_index != 0) link->Send(RendezvousOf(*live.rendezvous));
    // A stop that was sent to an earlier stream may not have arrived.
    if (entry.record.job.state() == v1::JOB_STATE_STOPPING && live.stop_time != absl::InfiniteFuture()) {
      link->Send(StopOf(entry.record));
    }
    return absl::OkStatus();
  }));
  table_.Wake();
  return session;
}

absl::Status WorkerHub::Handle(const Session& session, const v1::WorkerMessage& message) {
  switch (message.message_case()) {
    case v1::WorkerMessage::kBatch:
      return HandleBatch(session, message.batch());
    case v1::WorkerMessage::kListening:
      return table_.WithLive(session.attempt, [&](JobEntry& entry) -> absl::Status {
        RETURN_IF_ERROR(WorkerOf(entry, session).status());
        entry.live.rendezvous = message.listening();
        for (size_t node = 1; node < entry.live.workers.size(); ++node) {
          const WorkerLive& worker = entry.live.workers[node];
          if (worker.link != nullptr) worker.link->Send(RendezvousOf(message.listening()));
        }
        return absl::OkStatus();
      });
    case v1::WorkerMessage::kEngineExit:
      return HandleExit(session, message.engine_exit());
    case v1::WorkerMessage::kDone:
      RETURN_IF_ERROR(table_.WithLive(session.attempt, [&](JobEntry& entry) -> absl::Status {
        ASSIGN_OR_RETURN(WorkerLive * worker, WorkerOf(entry, session));
        worker->done = true;
        return absl::OkStatus();
      }));
      table_.Wake();
      return absl::OkStatus();
    default:
      return absl::InvalidArgumentError("a worker says hello once, first, and nothing but what WorkerMessage lists");
  }
}

absl::Status WorkerHub::HandleExit(const Session& session, const v1::EngineExit& exit) {
  RETURN_IF_ERROR(table_.WithLive(session.attempt, [&](JobEntry& entry) -> absl::Status {
    RETURN_IF_ERROR(WorkerOf(entry, session).status());
    if (exit.rank() < 0 || exit.rank() >= static_cast<int>(entry.live.ranks.size())) {
      return absl::InvalidArgumentError(absl::StrCat("there is no rank ", exit.rank()));
    }
    RankLive& rank = entry.live.ranks[exit.rank()];
    if (rank.exit) return absl::OkStatus();
    rank.exit = exit;
    rank.status.set_phase("exited");
    if (exit.pid() != 0) rank.status.set_pid(exit.pid());
    return absl::OkStatus();
  }));
  table_.Wake();
  return absl::OkStatus();
}

absl::Status WorkerHub::HandleBatch(const Session& session, const v1::Batch& batch) {
  const AttemptKey& key = session.attempt;
  RankRange ranks;
  RETURN_IF_ERROR(table_.WithLive(key, [&](JobEntry& entry) {
    ranks = RanksOf(*entry.newest(), session.node_index);
    return WorkerOf(entry, session).status();  // a fenced worker stores nothing
  }));
  RETURN_IF_ERROR(CheckRanks(batch, ranks));
  std::vector<EngineEventRecord> fresh;
  const absl::Status appended = Append(key, batch, fresh);
  ASSIGN_OR_RETURN(const auto positions, files_.Positions(key));

  bool unsaved = false;
  bool wake = false;
  absl::Status speaks;
  const absl::Status open = table_.WithLive(key, [&](JobEntry& entry) {
    // What is stored counts, even if the worker has opened another stream meanwhile: it is not sent again.
    Apply(key, fresh, batch, entry.live);
    unsaved = !entry.live.unsaved_checkpoints.empty();
    wake = entry.record.job.state() == v1::JOB_STATE_STARTING && AllReady(entry.live);
    const absl::StatusOr<WorkerLive*> worker = WorkerOf(entry, session);
    speaks = worker.status();
    if (worker.ok() && (*worker)->link != nullptr && (batch.events_size() > 0 || batch.logs_size() > 0)) {
      (*worker)->link->Send(AckOf(positions, ranks));
    }
    return absl::OkStatus();
  });
  if (!open.ok()) {
    files_.Close(key);  // the attempt has ended meanwhile, and what was appended has opened its files again
    return open;
  }
  if (wake) table_.Wake();
  if (unsaved) RETURN_IF_ERROR(SaveCheckpoints(key));
  return appended.ok() ? speaks : appended;
}

// Takes what is new of a batch, and its heartbeats, into the live state.
void WorkerHub::Apply(const AttemptKey& key, const std::vector<EngineEventRecord>& fresh, const v1::Batch& batch,
                      LiveState& live) {
  const absl::Time now = clock_.Now();
  for (const EngineEventRecord& event : fresh) {
    if (auto checkpoint = ApplyEvent(key, event, live)) live.unsaved_checkpoints.push_back(*std::move(checkpoint));
    live.ranks[event.rank].last_heard = now;
  }
  for (const v1::Heartbeat& heartbeat : batch.heartbeats()) ApplyHeartbeat(heartbeat, now, live);
}

// Stores what is new of the batch; stops at the first error, after which nothing is out of order.
absl::Status WorkerHub::Append(const AttemptKey& key, const v1::Batch& batch, std::vector<EngineEventRecord>& fresh) {
  for (const v1::EngineEvent& event : batch.events()) {
    EngineEventRecord record{event.rank(), event.offset(), event.json()};
    ASSIGN_OR_RETURN(const bool is_new, files_.AppendEvent(key, FileOf(record), record));
    if (is_new) fresh.push_back(std::move(record));
  }
  for (const v1::LogChunk& log : batch.logs()) {
    RETURN_IF_ERROR(files_.AppendLog(key, log.rank(), log.offset(), log.data()));
  }
  return absl::OkStatus();
}

absl::Status WorkerHub::SaveCheckpoints(const AttemptKey& key) {
  std::vector<CheckpointRecord> saved;
  RETURN_IF_ERROR(table_
                      .Update(key.job_id,
                              [&](JobChange& change) {
                                return table_.WithLive(key, [&](JobEntry& entry) {
                                  change.checkpoints = saved = entry.live.unsaved_checkpoints;
                                  return absl::OkStatus();
                                });
                              })
                      .status());
  return table_.WithLive(key, [&](JobEntry& entry) {
    std::erase_if(entry.live.unsaved_checkpoints, [&](const CheckpointRecord& checkpoint) {
      return std::ranges::any_of(saved, [&](const CheckpointRecord& old) { return SameCheckpoint(old, checkpoint); });
    });
    return absl::OkStatus();
  });
}

void WorkerHub::Detach(const Session& session) {
  const absl::Status status = table_.WithLive(session.attempt, [&](JobEntry& entry) -> absl::Status {
    ASSIGN_OR_RETURN(WorkerLive * worker, WorkerOf(entry, session));
    worker->link.reset();
    worker->detached = clock_.Now();
    return absl::OkStatus();
  });
  if (status.ok()) table_.Wake();  // otherwise the attempt is over, and so is the matter
}

void WorkerHub::DetachAll() {
  v1::CoordinatorMessage message;
  message.mutable_detach();
  table_.ForEachOpen([&](JobEntry& entry) {
    for (const WorkerLive& worker : entry.live.workers) {
      if (worker.link != nullptr) worker.link->Send(message);
    }
  });
}

}  // namespace ithaca

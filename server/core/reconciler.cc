#include "server/core/reconciler.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "ithaca/v1/worker_service.pb.h"
#include "proto/status_macros.h"
#include "server/core/admission.h"
#include "server/core/identifiers.h"
#include "server/core/job_edit.h"
#include "server/core/outcome.h"
#include "server/core/run_file.h"
#include "server/core/worker_hub.h"

namespace ithaca {
namespace {

constexpr absl::Duration kPoll = absl::Seconds(1);  // between looks at workers
constexpr absl::Duration kIdle = absl::Minutes(1);  // between looks when nothing runs

// Leaves the job alone if it is not, or no longer, where the decision found it.
bool Expect(JobChange& change, std::initializer_list<v1::JobState> states) {
  const bool as_expected = std::ranges::count(states, change.job.job.state()) > 0;
  change.unchanged = !as_expected;
  return as_expected;
}

Cause LaunchFailed(const absl::Status& status) {
  return {v1::JOB_REASON_LAUNCH_FAILED, v1::BLAME_SYSTEM,
          absl::StrCat("a worker could not be launched: ", std::string(status.message()))};
}

}  // namespace

Reconciler::Reconciler(JobTable& table, AttemptFiles& files, Launcher& launcher, const Clock& clock, Options options)
    : table_(table), files_(files), launcher_(launcher), clock_(clock), options_(options), started_(clock.Now()) {}

absl::Time Reconciler::Tick() {
  last_error_ = absl::OkStatus();
  const bool any_open = Observe();
  view_ = table_.View();
  const absl::Time now = clock_.Now();
  const Schedule schedule = Decide(view_, now, options_.scheduler);
  table_.SetQueueCauses(schedule.queued);
  for (const Action& action : schedule.actions) {
    Note(std::visit([&](const auto& step) { return Carry(action.job_id, step); }, action.step));
  }
  const bool look_again = any_open || !schedule.actions.empty() || !last_error_.ok();
  return std::min(schedule.next_deadline, now + (look_again ? kPoll : kIdle));
}

void Reconciler::Note(const absl::Status& status) {
  if (last_error_.ok()) last_error_ = status;
}

// --- Looking ---------------------------------------------------------------------------------------------------------

bool Reconciler::Observe() {
  std::vector<OpenAttemptCopy> open;
  table_.ForEachOpen([&](JobEntry& entry) {
    open.push_back({entry.record, *entry.newest(), entry.live.reported_failure.has_value()});
  });
  std::erase_if(unstored_, [&](const auto& started) {
    return std::ranges::none_of(open, [&](const OpenAttemptCopy& copy) {
      return AttemptKey{copy.attempt.job_id, copy.attempt.number} == started.first.attempt;
    });
  });
  for (const OpenAttemptCopy& copy : open) Note(ObserveAttempt(copy));
  return !open.empty();
}

absl::Status Reconciler::ObserveAttempt(const OpenAttemptCopy& copy) {
  const std::vector<WorkerProcess>& workers = copy.attempt.workers;
  const bool unlaunched = std::ranges::any_of(workers, [](const WorkerProcess& process) { return !process.known(); });
  // A coordinator that ended between intent and result left this: find what it started, or start it now. A launch that
  // failed here is not repeated: the attempt is ending.
  if (unlaunched && !copy.launch_failed) return Launch(copy.job, copy.attempt);
  for (size_t node = 0; node < workers.size(); ++node) {
    if (!workers[node].known()) continue;
    const WorkerStatus status = launcher_.Check(workers[node]);
    if (status.life == WorkerStatus::Life::kGone) MarkGone(copy.attempt, static_cast<int>(node), status.detail);
  }
  return absl::OkStatus();
}

void Reconciler::MarkGone(const AttemptRecord& attempt, int node, const std::string& detail) {
  // Not OK only if the attempt has ended meanwhile, and then it does not matter.
  (void)table_.WithLive({attempt.job_id, attempt.number}, [&](JobEntry& entry) {
    WorkerLive& worker = entry.live.workers[node];
    worker.gone = true;
    worker.gone_detail = detail;
    return absl::OkStatus();
  });
}

// --- Starting --------------------------------------------------------------------------------------------------------

absl::Status Reconciler::Carry(const std::string& job_id, const StartAttempt& step) {
  bool started = false;
  JobRecord job;
  AttemptRecord attempt;
  RETURN_IF_ERROR(table_
                      .Update(job_id,
                              [&](JobChange& change) {
                                if (!Expect(change, {v1::JOB_STATE_QUEUED})) return absl::OkStatus();
                                OpenAttempt(step.placement, change);
                                started = true;
                                job = change.job;
                                attempt = *change.attempt;
                                return absl::OkStatus();
                              })
                      .status());
  return started ? Launch(job, attempt) : absl::OkStatus();
}

void Reconciler::OpenAttempt(const std::vector<NodePlacement>& placement, JobChange& change) const {
  const absl::Time now = clock_.Now();
  v1::Job& job = change.job.job;
  AttemptRecord attempt;
  attempt.job_id = job.id();
  attempt.number = job.attempt() + 1;
  attempt.token = NewToken();
  attempt.placement = placement;
  attempt.workers.resize(placement.size());
  attempt.launch_time = now;
  job.set_attempt(attempt.number);
  job.set_state(v1::JOB_STATE_STARTING);
  SetCause(job, {v1::JOB_REASON_LAUNCHING, v1::BLAME_UNSPECIFIED,
                 absl::StrCat("attempt ", attempt.number, ": workers are being launched")});
  if (!job.has_start_time()) *job.mutable_start_time() = ToProtoTime(now);
  job.clear_ranks();
  change.job.stop_deadline = absl::InfiniteFuture();
  change.attempt = std::move(attempt);
}

// Starts those workers of an attempt that are not known to have been started, and stores which processes they are.
absl::Status Reconciler::Launch(const JobRecord& job, const AttemptRecord& attempt) {
  const AttemptKey key{attempt.job_id, attempt.number};
  absl::Status failure = PrepareDirectory(job, attempt);
  for (size_t node = 0; node < attempt.workers.size(); ++node) {
    const int index = static_cast<int>(node);
    if (attempt.workers[node].known() || unstored_.contains({key, index})) continue;
    if (failure.ok()) {
      absl::StatusOr<WorkerProcess> process = FindOrStart(job, attempt, index);
      if (process.ok()) unstored_[{key, index}] = *std::move(process);
      failure = process.status();
    }
    if (!failure.ok()) MarkGone(attempt, index, "was never launched");
  }
  if (!failure.ok()) {
    (void)table_.WithLive(key, [&](JobEntry& entry) {
      entry.live.reported_failure = LaunchFailed(failure);
      return absl::OkStatus();
    });
    table_.Wake();
  }
  return StoreProcesses(key);
}

absl::Status Reconciler::PrepareDirectory(const JobRecord& job, const AttemptRecord& attempt) {
  ASSIGN_OR_RETURN(const auto directory, files_.MakeDirectory({attempt.job_id, attempt.number}));
  const auto checkpoints = files_.JobDirectory(attempt.job_id) / "checkpoints";
  ASSIGN_OR_RETURN(const v1::Job now, table_.Get(attempt.job_id));
  ASSIGN_OR_RETURN(const nlohmann::json run, RunJson(job, attempt.number, attempt.placement, table_.nodes(),
                                                     checkpoints, now.checkpoints_size() > 0));
  return WriteRunFile(directory, run.dump(2));
}

absl::StatusOr<WorkerProcess> Reconciler::FindOrStart(const JobRecord& job, const AttemptRecord& attempt, int node) {
  ASSIGN_OR_RETURN(const auto directory, files_.MakeDirectory({attempt.job_id, attempt.number}));
  const LaunchRequest request{attempt.job_id, attempt.number, attempt.token, node, attempt.placement[node], directory};
  if (attempt.launch_time <= started_) {
    ASSIGN_OR_RETURN(const std::optional<WorkerProcess> found, launcher_.Find(request));
    if (found) return *found;
  }
  if (job.job.state() != v1::JOB_STATE_STARTING) return absl::CancelledError("the job is being stopped");
  return launcher_.Start(request);
}

absl::Status Reconciler::StoreProcesses(const AttemptKey& key) {
  const auto store = [&](JobChange& change) {
    change.unchanged = true;
    if (!change.attempt || change.attempt->number != key.number || change.attempt->ended()) return absl::OkStatus();
    for (size_t node = 0; node < change.attempt->workers.size(); ++node) {
      const auto process = unstored_.find({key, static_cast<int>(node)});
      if (process == unstored_.end() || change.attempt->workers[node].known()) continue;
      change.attempt->workers[node] = process->second;
      change.unchanged = false;
    }
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(table_.Update(key.job_id, store).status());
  std::erase_if(unstored_, [&](const auto& started) { return started.first.attempt == key; });
  return absl::OkStatus();
}

absl::Status Reconciler::Carry(const std::string& job_id, const MarkRunning&) {
  return table_
      .Update(job_id,
              [&](JobChange& change) {
                if (!Expect(change, {v1::JOB_STATE_STARTING})) return absl::OkStatus();
                change.job.job.set_state(v1::JOB_STATE_RUNNING);
                SetCause(change.job.job, {});
                change.attempt->running_time = clock_.Now();
                return absl::OkStatus();
              })
      .status();
}

// --- Stopping --------------------------------------------------------------------------------------------------------

absl::Status Reconciler::Carry(const std::string& job_id, const BeginStop& step) {
  return table_
      .Update(job_id,
              [&](JobChange& change) {
                if (!Expect(change, {v1::JOB_STATE_STARTING, v1::JOB_STATE_RUNNING})) return absl::OkStatus();
                change.job.job.set_state(v1::JOB_STATE_STOPPING);
                SetCause(change.job.job, step.cause);
                change.job.stop_grace = step.grace;
                change.job.stop_deadline = clock_.Now() + step.grace + options_.scheduler.kill_slack;
                return absl::OkStatus();
              })
      .status();
}

absl::Status Reconciler::Carry(const std::string& job_id, const SendStop&) {
  std::vector<WorkerProcess> out_of_reach;
  RETURN_IF_ERROR(WithOpen(job_id, [&](JobEntry& entry) {
    entry.live.stop_time = std::min(entry.live.stop_time, clock_.Now());
    entry.live.told_deadline = entry.record.stop_deadline;
    for (size_t node = 0; node < entry.live.workers.size(); ++node) {
      const WorkerLive& worker = entry.live.workers[node];
      const WorkerProcess& process = entry.newest()->workers[node];
      if (worker.done || worker.gone) continue;
      if (worker.link != nullptr) {
        worker.link->Send(StopOf(entry.record));
      } else if (process.known()) {
        out_of_reach.push_back(process);
      }
    }
  }));
  for (const WorkerProcess& process : out_of_reach) RETURN_IF_ERROR(launcher_.Terminate(process));
  return absl::OkStatus();
}

absl::Status Reconciler::Carry(const std::string& job_id, const KillWorkers&) {
  std::vector<WorkerProcess> processes;
  RETURN_IF_ERROR(WithOpen(job_id, [&](JobEntry& entry) {
    for (const WorkerProcess& process : entry.newest()->workers) {
      if (process.known()) processes.push_back(process);
    }
  }));
  for (const WorkerProcess& process : processes) RETURN_IF_ERROR(launcher_.Kill(process));
  return WithOpen(job_id, [&](JobEntry& entry) { entry.live.kill_sent = true; });
}

// Edits the live state of the job's open attempt, if it has one.
absl::Status Reconciler::WithOpen(const std::string& job_id, absl::FunctionRef<void(JobEntry&)> edit) {
  AttemptKey key{job_id, 0};
  RETURN_IF_ERROR(table_.Read(job_id, [&](const JobEntry& entry) { key.number = entry.record.job.attempt(); }));
  return table_.WithLive(key, [&](JobEntry& entry) {
    edit(entry);
    return absl::OkStatus();
  });
}

// --- Ending ----------------------------------------------------------------------------------------------------------

absl::Status Reconciler::Carry(const std::string& job_id, const EndAttempt&) {
  std::vector<std::shared_ptr<WorkerLink>> links;
  AttemptKey key{job_id, 0};
  const auto end = [&](JobChange& change) -> absl::Status {
    if (!Expect(change, {v1::JOB_STATE_STARTING, v1::JOB_STATE_RUNNING, v1::JOB_STATE_STOPPING})) {
      return absl::OkStatus();
    }
    key.number = change.attempt->number;
    return table_.Read(job_id, [&](const JobEntry& entry) {
      for (const WorkerLive& worker : entry.live.workers) {
        if (worker.link != nullptr) links.push_back(worker.link);
      }
      CloseAttempt(entry, change);
    });
  };
  RETURN_IF_ERROR(table_.Update(job_id, end).status());
  v1::CoordinatorMessage finish;
  finish.mutable_finish();
  for (const std::shared_ptr<WorkerLink>& link : links) link->Send(finish);
  files_.Close(key);
  return absl::OkStatus();
}

void Reconciler::CloseAttempt(const JobEntry& entry, JobChange& change) const {
  const absl::Time now = clock_.Now();
  const Cause outcome = OutcomeOf(change.job.job, entry.live);
  const auto seen = std::ranges::find(view_.jobs, change.job.job.id(), &JobView::id);
  const EndDecision decision = DecideEnd(*seen, outcome, now, options_.scheduler);
  v1::Job& job = change.job.job;
  const v1::Job live = Compose(entry);
  if (live.has_progress()) *job.mutable_progress() = live.progress();
  *job.mutable_ranks() = live.ranks();
  SetEnd(job, decision.state, now);
  SetCause(job, decision.cause);
  change.job.not_before = decision.not_before;
  change.job.stop_deadline = absl::InfiniteFuture();
  AttemptRecord& attempt = *change.attempt;
  if (attempt.running_time < now) change.job.run_time += now - attempt.running_time;
  attempt.end_time = now;
  attempt.cause = outcome;
  attempt.token.clear();
  change.checkpoints = entry.live.unsaved_checkpoints;
}

absl::Status Reconciler::Carry(const std::string& job_id, const Requeue&) {
  return table_
      .Update(job_id,
              [&](JobChange& change) {
                if (!Expect(change, {v1::JOB_STATE_BACKOFF})) return absl::OkStatus();
                change.job.job.set_state(v1::JOB_STATE_QUEUED);
                SetCause(change.job.job, {});
                change.job.not_before = absl::InfinitePast();
                return absl::OkStatus();
              })
      .status();
}

}  // namespace ithaca

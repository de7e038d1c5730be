// The snapshots that JobTable gives out: of a job for users, of the cluster for the scheduler, of live jobs for gauges.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "google/protobuf/util/time_util.h"
#include "server/core/job_table.h"
#include "server/core/outcome.h"

namespace ithaca {
namespace {

using google::protobuf::util::TimeUtil;

AttemptView ViewAttempt(const JobEntry& entry) {
  const AttemptRecord& attempt = *entry.newest();
  const LiveState& live = entry.live;
  AttemptView view;
  view.number = attempt.number;
  view.placement = attempt.placement;
  view.launch_time = attempt.launch_time;
  view.running_time = attempt.running_time;
  view.all_ready = AllReady(live);
  view.all_ended = AllEnded(live);
  view.lost = AnyWorkerLost(live);
  view.stop_sent = live.stop_time != absl::InfiniteFuture() && live.told_deadline <= entry.record.stop_deadline;
  view.kill_sent = live.kill_sent;
  if (const std::optional<Cause> failure = FailureOf(live)) {
    view.failed = true;
    view.failure = *failure;
  } else if (view.lost) {
    view.failed = true;
    view.failure = LostWorker(live);
  }
  view.attached = true;
  for (const WorkerLive& worker : live.workers) {
    if (worker.link != nullptr || worker.done || worker.gone) continue;
    view.attached = false;
    view.last_attached = std::min(view.last_attached, worker.detached);
  }
  for (const RankLive& rank : live.ranks) {
    if (rank.exit || rank.last_heard >= view.last_heartbeat) continue;
    view.last_heartbeat = rank.last_heard;
    view.silent_rank = absl::StrCat("rank ", rank.status.rank(), " on ", rank.status.host());
  }
  return view;
}

bool IsForgivable(const AttemptRecord& attempt) {
  return attempt.ended() && (attempt.cause.blame == v1::BLAME_SYSTEM || attempt.cause.blame == v1::BLAME_HARDWARE);
}

JobView ViewJob(const JobEntry& entry) {
  const v1::Job& job = entry.record.job;
  JobView view;
  view.id = job.id();
  view.name = job.name();
  view.sequence = entry.record.sequence;
  view.priority = job.priority();
  view.state = job.state();
  view.reason = job.reason();
  view.demand = entry.record.demand;
  view.restart = job.spec().restart();
  view.limits = job.spec().limits();
  view.not_before = entry.record.not_before;
  view.stop_deadline = entry.record.stop_deadline;
  view.run_time = entry.record.run_time;
  for (const auto& [number, attempt] : entry.attempts) {
    if (IsForgivable(attempt)) view.failures.push_back(attempt.end_time);
  }
  if (HoldsSlots(job.state())) view.attempt = ViewAttempt(entry);
  return view;
}

// The newest checkpoint.keep of them: engines remove the others.
void AddCheckpoints(const JobEntry& entry, v1::Job& job) {
  const CheckpointRecord* exported = nullptr;
  for (const CheckpointRecord& record : entry.checkpoints) {
    if (record.is_export) {
      exported = &record;
    } else {
      *job.add_checkpoints() = record.checkpoint;
    }
  }
  if (exported != nullptr) job.set_export_path(exported->checkpoint.path());
  auto& checkpoints = *job.mutable_checkpoints();
  std::ranges::sort(checkpoints, {}, [](const v1::Checkpoint& checkpoint) { return checkpoint.step(); });
  const int keep = job.spec().checkpoint().has_keep() ? job.spec().checkpoint().keep() : 2;
  const int gone = std::max(0, checkpoints.size() - keep);
  checkpoints.DeleteSubrange(0, gone);
}

}  // namespace

v1::Job Compose(const JobEntry& entry) {
  v1::Job job = entry.record.job;
  if (job.state() == v1::JOB_STATE_QUEUED) {
    job.set_reason(entry.queue_cause.reason);
    job.set_message(entry.queue_cause.message);
  }
  if (HoldsSlots(job.state())) {
    if (entry.live.progress.step() > 0 || entry.live.progress.has_eval_loss())
      *job.mutable_progress() = entry.live.progress;
    job.clear_ranks();
    for (const RankLive& rank : entry.live.ranks) {
      if (rank.ready || rank.exit || rank.status.pid() != 0 || !rank.status.phase().empty())
        *job.add_ranks() = rank.status;
    }
  }
  if (job.has_progress() && job.progress().total_steps() == 0) {
    job.mutable_progress()->set_total_steps(job.spec().training().steps());
  }
  AddCheckpoints(entry, job);
  return job;
}

ClusterView JobTable::View() const {
  absl::MutexLock lock(&mutex_);
  ClusterView view;
  view.nodes = nodes_;
  for (const std::string& id : unfinished_) view.jobs.push_back(ViewJob(jobs_.at(id)));
  return view;
}

std::vector<LiveJob> JobTable::Live(absl::Duration hold) const {
  const int64_t oldest = absl::ToUnixSeconds(clock_.Now() - hold);
  absl::MutexLock lock(&mutex_);
  std::vector<LiveJob> live;
  for (const auto& [id, entry] : jobs_) {
    const v1::Job& job = entry.record.job;
    if (IsTerminal(job.state()) && job.end_time().seconds() < oldest) continue;
    live.push_back({Compose(entry), entry.live.last_step, entry.live.steps_total, entry.live.tokens_total});
  }
  return live;
}

std::vector<SlotUse> JobTable::Slots() const {
  std::map<v1::DeviceKind, SlotUse> use;
  for (const Node& node : nodes_) {
    for (const DevicePool& pool : node.pools) {
      use[pool.device].device = pool.device;
      use[pool.device].total += pool.slots;
    }
  }
  absl::MutexLock lock(&mutex_);
  for (const std::string& id : unfinished_) {
    const JobEntry& entry = jobs_.at(id);
    if (!HoldsSlots(entry.record.job.state())) continue;
    for (const NodePlacement& placement : entry.newest()->placement) {
      use[placement.device].device = placement.device;
      use[placement.device].used += static_cast<int>(placement.slots.size());
    }
  }
  std::vector<SlotUse> slots;
  for (const auto& [device, entry] : use) slots.push_back(entry);
  return slots;
}

}  // namespace ithaca

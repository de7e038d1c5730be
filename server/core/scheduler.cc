#include "server/core/scheduler.h"

#include <algorithm>
#include <optional>
#include <set>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "server/core/job_state.h"

namespace ithaca {
namespace {

std::string DeviceName(v1::DeviceKind device, int count) {
  const std::string kind = device == v1::DEVICE_KIND_CUDA ? "GPU" : "CPU slot";
  return absl::StrCat(count, " ", kind, count == 1 ? "" : "s");
}

std::string DemandName(const Demand& demand) {
  if (demand.nodes == 1) return DeviceName(demand.device, demand.slots_per_node);
  return absl::StrCat(demand.nodes, " hosts with ", DeviceName(demand.device, demand.slots_per_node), " each");
}

// Which slots of one kind are free, by node in the order of the view.
class FreeSlots {
 public:
  FreeSlots(const ClusterView& view, v1::DeviceKind device) : device_(device) {
    for (const Node& node : view.nodes) {
      NodeSlots& slots = nodes_.emplace_back(NodeSlots{node.name, {}});
      for (const DevicePool& pool : node.pools) {
        for (int slot = 0; pool.device == device && slot < pool.slots; ++slot) slots.free.insert(slot);
      }
    }
    for (const JobView& job : view.jobs) {
      if (HoldsSlots(job.state)) Take(job.attempt.placement);
    }
  }

  void Take(const std::vector<NodePlacement>& placement) {
    for (const NodePlacement& taken : placement) {
      if (taken.device != device_) continue;
      for (NodeSlots& node : nodes_) {
        if (node.name != taken.node) continue;
        for (const int slot : taken.slots) node.free.erase(slot);
      }
    }
  }

  // The fullest nodes that still fit come first, so that whole nodes stay free for those who need them.
  std::optional<std::vector<NodePlacement>> Place(const Demand& demand) const {
    std::vector<const NodeSlots*> fitting;
    for (const NodeSlots& node : nodes_) {
      if (static_cast<int>(node.free.size()) >= demand.slots_per_node) fitting.push_back(&node);
    }
    if (static_cast<int>(fitting.size()) < demand.nodes) return std::nullopt;
    std::ranges::stable_sort(fitting, {}, [](const NodeSlots* node) { return node->free.size(); });
    std::vector<NodePlacement> placement;
    for (int i = 0; i < demand.nodes; ++i) {
      const std::set<int>& free = fitting[i]->free;
      placement.push_back({fitting[i]->name, device_, {free.begin(), std::next(free.begin(), demand.slots_per_node)}});
    }
    return placement;
  }

  int count() const {
    int count = 0;
    for (const NodeSlots& node : nodes_) count += static_cast<int>(node.free.size());
    return count;
  }

 private:
  struct NodeSlots {
    std::string name;
    std::set<int> free;
  };

  v1::DeviceKind device_;
  std::vector<NodeSlots> nodes_;
};

// The step due at `deadline`, or the wish to look again then.
bool Due(absl::Time deadline, absl::Time now, Schedule& schedule) {
  if (now >= deadline) return true;
  schedule.next_deadline = std::min(schedule.next_deadline, deadline);
  return false;
}

absl::Duration StartLimit(const JobView& job) {
  return absl::Seconds(job.limits.has_start_seconds() ? job.limits.start_seconds() : 600);
}

std::optional<Step> DecideStopping(const JobView& job, absl::Time now, Schedule& schedule) {
  if (!job.attempt.stop_sent) return SendStop{};
  if (!job.attempt.kill_sent && Due(job.stop_deadline, now, schedule)) return KillWorkers{};
  return std::nullopt;
}

BeginStop Hung(const JobView& job, const SchedulerOptions& options) {
  return {
      {v1::JOB_REASON_HUNG, v1::BLAME_HARDWARE,
       absl::StrCat(job.attempt.silent_rank, " has not been heard for ", absl::FormatDuration(options.hang_timeout))},
      options.stop_grace};
}

std::optional<Step> DecideActive(const JobView& job, absl::Time now, const SchedulerOptions& options,
                                 Schedule& schedule) {
  const AttemptView& attempt = job.attempt;
  if (attempt.failed) return BeginStop{attempt.failure, options.stop_grace};
  if (!attempt.attached && Due(attempt.last_attached + options.worker_lease, now, schedule)) {
    return BeginStop{
        {v1::JOB_REASON_WORKER_LOST, v1::BLAME_HARDWARE,
         absl::StrCat("a worker that runs has not been in touch for ", absl::FormatDuration(options.worker_lease))},
        options.stop_grace};
  }
  if (attempt.attached && Due(attempt.last_heartbeat + options.hang_timeout, now, schedule)) return Hung(job, options);
  if (job.state == v1::JOB_STATE_STARTING) {
    if (Due(attempt.launch_time + StartLimit(job), now, schedule)) {
      return BeginStop{{v1::JOB_REASON_START_TIMEOUT, v1::BLAME_SYSTEM,
                        absl::StrCat("not every rank was ready within ", absl::FormatDuration(StartLimit(job)),
                                     " (limits.start_seconds)")},
                       options.stop_grace};
    }
  } else if (job.limits.run_seconds() > 0) {
    const absl::Duration limit = absl::Seconds(job.limits.run_seconds());
    if (Due(attempt.running_time + (limit - job.run_time), now, schedule)) {
      return BeginStop{{v1::JOB_REASON_RUN_TIMEOUT, v1::BLAME_USER,
                        absl::StrCat("ran longer than ", absl::FormatDuration(limit), " (limits.run_seconds)")},
                       options.stop_grace};
    }
  }
  return std::nullopt;
}

// What to do about a job that does not wait for slots.
std::optional<Step> DecideOne(const JobView& job, absl::Time now, const SchedulerOptions& options, Schedule& schedule) {
  if (job.state == v1::JOB_STATE_BACKOFF) {
    return Due(job.not_before, now, schedule) ? std::optional<Step>(Requeue{}) : std::nullopt;
  }
  if (!HoldsSlots(job.state)) return std::nullopt;
  // A short run can be over when it is first seen to be ready: it ran all the same.
  if (job.state == v1::JOB_STATE_STARTING && job.attempt.all_ready) return MarkRunning{};
  if (job.attempt.all_ended) return EndAttempt{job.attempt.lost};
  if (job.state == v1::JOB_STATE_STOPPING) return DecideStopping(job, now, schedule);
  return DecideActive(job, now, options, schedule);
}

std::vector<const JobView*> InOrder(const ClusterView& view) {
  std::vector<const JobView*> queue;
  for (const JobView& job : view.jobs) {
    if (job.state == v1::JOB_STATE_QUEUED) queue.push_back(&job);
  }
  std::ranges::sort(queue, {}, [](const JobView* job) { return std::tuple(-job->priority, job->sequence); });
  return queue;
}

void Admit(const ClusterView& view, Schedule& schedule) {
  std::map<v1::DeviceKind, FreeSlots> free;
  std::map<v1::DeviceKind, const JobView*> head;  // that does not fit and blocks those after it
  int place = 0;
  for (const JobView* job : InOrder(view)) {
    ++place;
    const v1::DeviceKind device = job->demand.device;
    FreeSlots& slots = free.try_emplace(device, view, device).first->second;
    if (const std::string why = WhyNeverFits(job->demand, view.nodes); !why.empty()) {
      schedule.queued[job->id] = {v1::JOB_REASON_TOO_LARGE, v1::BLAME_UNSPECIFIED, why};
    } else if (const auto blocker = head.find(device); blocker != head.end()) {
      schedule.queued[job->id] = {
          v1::JOB_REASON_WAITING_FOR_TURN, v1::BLAME_UNSPECIFIED,
          absl::StrCat("number ", place, " in the queue, after ", blocker->second->name, " (", blocker->second->id,
                       "), which waits for ", DemandName(blocker->second->demand))};
    } else if (auto placement = slots.Place(job->demand)) {
      slots.Take(*placement);
      schedule.actions.push_back({job->id, StartAttempt{*std::move(placement)}});
    } else {
      head[device] = job;
      schedule.queued[job->id] = {
          v1::JOB_REASON_WAITING_FOR_SLOTS, v1::BLAME_UNSPECIFIED,
          absl::StrCat("needs ", DemandName(job->demand), ", of which ",
                       slots.count() == 1 ? "1 is" : absl::StrCat(slots.count(), " are"), " free")};
    }
  }
}

}  // namespace

Schedule Decide(const ClusterView& view, absl::Time now, const SchedulerOptions& options) {
  Schedule schedule;
  for (const JobView& job : view.jobs) {
    if (std::optional<Step> step = DecideOne(job, now, options, schedule)) {
      schedule.actions.push_back({job.id, *std::move(step)});
    }
  }
  Admit(view, schedule);
  return schedule;
}

std::string WhyNeverFits(const Demand& demand, const std::vector<Node>& nodes) {
  int fitting = 0;
  int most = 0;
  for (const Node& node : nodes) {
    int slots = 0;
    for (const DevicePool& pool : node.pools) slots += pool.device == demand.device ? pool.slots : 0;
    fitting += slots >= demand.slots_per_node ? 1 : 0;
    most = std::max(most, slots);
  }
  if (fitting >= demand.nodes) return "";
  if (demand.nodes == 1) {
    return absl::StrCat("needs ", DemandName(demand), ", but no host has more than ", DeviceName(demand.device, most));
  }
  return absl::StrCat("needs ", DemandName(demand), ", but there ", fitting == 1 ? "is" : "are", " only ", fitting,
                      " such");
}

EndDecision DecideEnd(const JobView& job, const Cause& outcome, absl::Time now, const SchedulerOptions& options) {
  switch (outcome.reason) {
    case v1::JOB_REASON_COMPLETED:
      return {v1::JOB_STATE_SUCCEEDED, outcome};
    case v1::JOB_REASON_CANCEL_REQUESTED:
      return {v1::JOB_STATE_CANCELLED, outcome};
    case v1::JOB_REASON_PAUSE_REQUESTED:
      return {v1::JOB_STATE_PAUSED, outcome};
    default:
      break;
  }
  if (outcome.blame == v1::BLAME_USER) return {v1::JOB_STATE_FAILED, outcome};

  const int max_restarts = job.restart.has_max_restarts() ? job.restart.max_restarts() : 3;
  const absl::Duration window = absl::Seconds(job.restart.has_window_seconds() ? job.restart.window_seconds() : 3600);
  const absl::Duration pause = absl::Seconds(job.restart.has_backoff_seconds() ? job.restart.backoff_seconds() : 10);
  const auto recent = std::ranges::count_if(job.failures, [&](absl::Time time) { return time > now - window; });
  if (max_restarts == 0) return {v1::JOB_STATE_FAILED, outcome};
  if (recent >= max_restarts) {
    return {v1::JOB_STATE_FAILED,
            {v1::JOB_REASON_RESTARTS_EXHAUSTED, outcome.blame,
             absl::StrCat("failed ", recent + 1, " times within ", absl::FormatDuration(window),
                          " (restart.max_restarts is ", max_restarts, "); the last time: ", outcome.message)}};
  }
  absl::Duration backoff = pause;
  for (int64_t i = 0; i < recent && backoff < options.max_backoff; ++i) backoff *= 2;
  backoff = std::min(backoff, std::max(options.max_backoff, pause));
  return {v1::JOB_STATE_BACKOFF,
          {v1::JOB_REASON_RESTARTING, outcome.blame,
           absl::StrCat("restart ", recent + 1, " of ", max_restarts, " in ", absl::FormatDuration(backoff), ": ",
                        outcome.message)},
          now + backoff};
}

}  // namespace ithaca

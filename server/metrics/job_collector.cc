#include "server/metrics/job_collector.h"

#include <algorithm>
#include <limits>
#include <map>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/metrics/family_list.h"

namespace ithaca {
namespace {

using Labels = FamilyList::Labels;

constexpr v1::JobState kStates[] = {v1::JOB_STATE_QUEUED,    v1::JOB_STATE_STARTING, v1::JOB_STATE_RUNNING,
                                    v1::JOB_STATE_STOPPING,  v1::JOB_STATE_BACKOFF,  v1::JOB_STATE_PAUSED,
                                    v1::JOB_STATE_SUCCEEDED, v1::JOB_STATE_FAILED,   v1::JOB_STATE_CANCELLED};

std::string StateLabel(v1::JobState state) { return absl::AsciiStrToLower(StateName(state)); }

double Seconds(const google::protobuf::Timestamp& time) {
  return static_cast<double>(time.seconds()) + 1e-9 * static_cast<double>(time.nanos());
}

Labels With(Labels labels, const std::string& name, const std::string& value) {
  labels.emplace_back(name, value);
  return labels;
}

void AddTotals(const JobTable& table, FamilyList* list) {
  std::map<v1::JobState, int> jobs;
  table.ReadDown(std::numeric_limits<int64_t>::max(), [&jobs](const JobEntry& entry) {
    ++jobs[entry.record.job.state()];
    return true;
  });
  for (const v1::JobState state : kStates) {
    list->Gauge("ithaca_jobs", "Jobs that are stored, by state.", {{"state", StateLabel(state)}}, jobs[state]);
  }
  list->Gauge("ithaca_queue_jobs", "Jobs that wait for slots.", {}, jobs[v1::JOB_STATE_QUEUED]);
  for (const SlotUse& slots : table.Slots()) {
    const Labels device = {{"device", slots.device == v1::DEVICE_KIND_CUDA ? "cuda" : "cpu"}};
    list->Gauge("ithaca_slots", "Slots that ranks can run on.", device, slots.total);
    list->Gauge("ithaca_slots_used", "Slots that running jobs hold.", device, slots.used);
  }
}

void AddPhases(const v1::PhaseSeconds& phases, const Labels& labels, FamilyList* list) {
  const std::pair<const char*, double> values[] = {{"data", phases.data()},         {"forward", phases.forward()},
                                                   {"backward", phases.backward()}, {"exchange", phases.exchange()},
                                                   {"reduce", phases.reduce()},     {"optimizer", phases.optimizer()}};
  for (const auto& [phase, seconds] : values) {
    list->Gauge("ithaca_job_phase_seconds", "Where the time of the last step went on rank 0.",
                With(labels, "phase", phase), seconds);
  }
}

void AddStep(const LiveJob& live, const Labels& labels, FamilyList* list) {
  const v1::StepMetrics& step = live.last_step;
  list->Gauge("ithaca_job_step", "Steps done.", labels, static_cast<double>(step.step()));
  list->Gauge("ithaca_job_loss", "Mean cross-entropy per target token of the last step, in nats.", labels, step.loss());
  list->Gauge("ithaca_job_grad_norm", "Global gradient norm of the last step, before clipping.", labels,
              step.grad_norm());
  list->Gauge("ithaca_job_learning_rate", "Learning rate of the last step.", labels, step.learning_rate());
  list->Gauge("ithaca_job_tokens_per_second", "Tokens per second of the last step, over all ranks.", labels,
              step.tokens_per_second());
  list->Gauge("ithaca_job_step_seconds", "Wall time of the last step.", labels, step.seconds());
  list->Gauge("ithaca_job_mfu_ratio",
              "Model FLOP/s of the last step as a share of what the devices can do; 0: not known.", labels, step.mfu());
  list->Gauge("ithaca_job_last_step_timestamp_seconds", "When the last step was done, in Unix time.", labels,
              Seconds(step.time()));
  AddPhases(step.seconds_by_phase(), labels, list);
}

void AddRanks(const v1::Job& job, const Labels& labels, FamilyList* list) {
  for (const v1::RankStatus& rank : job.ranks()) {
    const Labels of_rank = With(labels, "rank", absl::StrCat(rank.rank()));
    list->Gauge("ithaca_rank_memory_allocated_bytes", "Memory that tensors of a rank hold now.", of_rank,
                static_cast<double>(rank.memory_bytes()));
    list->Gauge("ithaca_rank_memory_peak_bytes", "Most memory that tensors of a rank have held.", of_rank,
                static_cast<double>(rank.peak_memory_bytes()));
    if (!rank.has_heartbeat_time()) continue;
    list->Gauge("ithaca_rank_heartbeat_timestamp_seconds", "When a rank was last heard, in Unix time.", of_rank,
                Seconds(rank.heartbeat_time()));
  }
}

void AddJob(const LiveJob& live, FamilyList* list) {
  const v1::Job& job = live.job;
  const Labels labels = {{"job", job.id()}, {"job_name", job.name()}};
  for (const v1::JobState state : kStates) {
    list->Gauge("ithaca_job_state", "1 for the state a job is in, 0 for the others.",
                With(labels, "state", StateLabel(state)), job.state() == state ? 1 : 0);
  }
  list->Counter("ithaca_job_attempts_total", "Attempts launched.", labels, job.attempt());
  list->Counter("ithaca_job_restarts_total", "Attempts after the first.", labels, std::max(0, job.attempt() - 1));
  list->Counter("ithaca_job_steps_total", "Steps done by the newest attempt.", labels,
                static_cast<double>(live.steps_total));
  list->Counter("ithaca_job_tokens_total", "Tokens trained by the newest attempt.", labels,
                static_cast<double>(live.tokens_total));
  list->Gauge("ithaca_job_target_steps", "Steps in all; 0: not known yet.", labels,
              static_cast<double>(job.progress().total_steps()));
  list->Gauge("ithaca_job_eta_seconds", "Estimated time to the last step; 0: not known.", labels,
              job.progress().eta_seconds());
  if (job.progress().has_eval_loss()) {
    list->Gauge("ithaca_job_eval_loss", "Loss on held-out documents by the last evaluation, in nats.", labels,
                job.progress().eval_loss());
  }
  if (live.last_step.step() > 0) AddStep(live, labels, list);
  AddRanks(job, labels, list);
}

}  // namespace

std::vector<prometheus::MetricFamily> JobCollector::Collect() const {
  FamilyList list;
  AddTotals(table_, &list);
  for (const LiveJob& live : table_.Live(hold_)) AddJob(live, &list);
  return list.Take();
}

}  // namespace ithaca

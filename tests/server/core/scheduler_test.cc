#include "server/core/scheduler.h"

#include <gtest/gtest.h>

#include <functional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace ithaca {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'000'000);
constexpr auto kCpu = v1::DEVICE_KIND_CPU;
constexpr auto kCuda = v1::DEVICE_KIND_CUDA;

Node Host(const std::string& name, int cpus, int gpus = 0) {
  return {name, {{kCpu, "cpu", cpus}, {kCuda, "gpu", gpus}}};
}

JobView Queued(const std::string& id, int64_t sequence, int slots, int priority = 0, v1::DeviceKind device = kCpu) {
  JobView job;
  job.id = id;
  job.name = absl::StrCat("name-", id);
  job.sequence = sequence;
  job.priority = priority;
  job.demand = {device, 1, slots};
  return job;
}

JobView Active(const std::string& id, v1::JobState state, std::vector<int> slots, const std::string& node = "n1",
               v1::DeviceKind device = kCpu) {
  JobView job = Queued(id, 1, static_cast<int>(slots.size()), 0, device);
  job.state = state;
  job.attempt.number = 1;
  job.attempt.placement = {{node, device, std::move(slots)}};
  job.attempt.launch_time = kNow - absl::Seconds(5);
  job.attempt.attached = true;
  if (state != v1::JOB_STATE_STARTING) job.attempt.running_time = kNow - absl::Seconds(4);
  return job;
}

// The actions as words: "start a n1:0,1", "running b", "stop c RUN_TIMEOUT", ...
struct Word {
  std::string operator()(const StartAttempt& step) const {
    std::vector<std::string> nodes;
    for (const NodePlacement& node : step.placement) {
      nodes.push_back(absl::StrCat(node.node, ":", absl::StrJoin(node.slots, ",")));
    }
    return absl::StrCat("start ", id, " ", absl::StrJoin(nodes, " "));
  }
  std::string operator()(const MarkRunning&) const { return "running " + id; }
  std::string operator()(const BeginStop& step) const { return "stop " + id + " " + ReasonName(step.cause.reason); }
  std::string operator()(const SendStop&) const { return "send " + id; }
  std::string operator()(const KillWorkers&) const { return "kill " + id; }
  std::string operator()(const EndAttempt& step) const { return (step.lost ? "lost " : "end ") + id; }
  std::string operator()(const Requeue&) const { return "requeue " + id; }
  std::string id;
};

std::vector<std::string> Actions(const Schedule& schedule) {
  std::vector<std::string> words;
  for (const Action& action : schedule.actions) words.push_back(std::visit(Word{action.job_id}, action.step));
  return words;
}

// One row: a cluster, and what shall be done and said about it.
struct Row {
  std::string name;
  std::vector<Node> nodes;
  std::vector<JobView> jobs;
  std::vector<std::string> actions;
  std::map<std::string, std::string> waiting;  // reason by job
};

class SchedulerTable : public testing::TestWithParam<Row> {};

TEST_P(SchedulerTable, Decides) {
  const Row& row = GetParam();
  const Schedule schedule = Decide({row.nodes, row.jobs}, kNow, {});
  EXPECT_EQ(Actions(schedule), row.actions);
  std::map<std::string, std::string> waiting;
  for (const auto& [id, cause] : schedule.queued) {
    waiting[id] = ReasonName(cause.reason);
    EXPECT_FALSE(cause.message.empty());
  }
  EXPECT_EQ(waiting, row.waiting);
}

std::vector<Row> AdmissionRows() {
  return {
      {"NothingToDo", {Host("n1", 2)}, {}, {}, {}},
      {"OneJobThatFits", {Host("n1", 2)}, {Queued("a", 1, 2)}, {"start a n1:0,1"}, {}},
      {"ByArrival",
       {Host("n1", 1)},
       {Queued("b", 2, 1), Queued("a", 1, 1)},
       {"start a n1:0"},
       {{"b", "WAITING_FOR_SLOTS"}}},
      {"ByPriorityFirst",
       {Host("n1", 1)},
       {Queued("a", 1, 1), Queued("b", 2, 1, 5)},
       {"start b n1:0"},
       {{"a", "WAITING_FOR_SLOTS"}}},
      {"SideBySide", {Host("n1", 3)}, {Queued("a", 1, 1), Queued("b", 2, 2)}, {"start a n1:0", "start b n1:1,2"}, {}},
      {"AllOrNothing",
       {Host("n1", 2)},
       {Active("r", v1::JOB_STATE_RUNNING, {0}), Queued("a", 2, 2)},
       {},
       {{"a", "WAITING_FOR_SLOTS"}}},
      {"TheHeadBlocksSmallerOnesBehindIt",
       {Host("n1", 2)},
       {Active("r", v1::JOB_STATE_RUNNING, {1}), Queued("a", 2, 2), Queued("b", 3, 1)},
       {},
       {{"a", "WAITING_FOR_SLOTS"}, {"b", "WAITING_FOR_TURN"}}},
      {"OneTooLargeBlocksNobody",
       {Host("n1", 2)},
       {Queued("a", 1, 3), Queued("b", 2, 2)},
       {"start b n1:0,1"},
       {{"a", "TOO_LARGE"}}},
  };
}

std::vector<Row> PlacementRows() {
  return {
      {"KindsOfDeviceDoNotBlockEachOther",
       {Host("n1", 1, 1)},
       {Active("r", v1::JOB_STATE_RUNNING, {0}, "n1", kCuda), Queued("a", 2, 1, 0, kCuda), Queued("b", 3, 1)},
       {"start b n1:0"},
       {{"a", "WAITING_FOR_SLOTS"}}},
      {"StoppingStillHoldsItsSlots",
       {Host("n1", 1)},
       {[] {
          JobView job = Active("r", v1::JOB_STATE_STOPPING, {0});
          job.attempt.stop_sent = true;
          return job;
        }(),
        Queued("a", 2, 1)},
       {},
       {{"a", "WAITING_FOR_SLOTS"}}},
      {"FreeSlotsAreTheOnesNotTaken",
       {Host("n1", 3)},
       {Active("r", v1::JOB_STATE_RUNNING, {1}), Queued("a", 2, 2)},
       {"start a n1:0,2"},
       {}},
      {"TheFullestHostThatFits", {Host("n1", 4), Host("n2", 2)}, {Queued("a", 1, 2)}, {"start a n2:0,1"}, {}},
      {"SeveralHosts",
       {Host("n1", 2), Host("n2", 2)},
       {[] {
         JobView job = Queued("a", 1, 2);
         job.demand.nodes = 2;
         return job;
       }()},
       {"start a n1:0,1 n2:0,1"},
       {}},
      {"PausedIsLeftAlone",
       {Host("n1", 1)},
       {[] {
         JobView job = Queued("a", 1, 1);
         job.state = v1::JOB_STATE_PAUSED;
         return job;
       }()},
       {},
       {}},
  };
}

INSTANTIATE_TEST_SUITE_P(Admission, SchedulerTable, testing::ValuesIn(AdmissionRows()),
                         [](const auto& info) { return info.param.name; });
INSTANTIATE_TEST_SUITE_P(Placement, SchedulerTable, testing::ValuesIn(PlacementRows()),
                         [](const auto& info) { return info.param.name; });

JobView With(JobView job, const std::function<void(JobView&)>& change) {
  change(job);
  return job;
}

const std::vector<Node> kOne = {Host("n1", 1)};
const JobView kStarting = Active("a", v1::JOB_STATE_STARTING, {0});
const JobView kRunning = Active("a", v1::JOB_STATE_RUNNING, {0});
const JobView kStopping = With(Active("a", v1::JOB_STATE_STOPPING, {0}), [](JobView& job) {
  job.attempt.stop_sent = true;
  job.stop_deadline = kNow + absl::Seconds(10);
});

void Lose(JobView& job) { job.attempt.all_ended = job.attempt.lost = true; }

std::vector<Row> StartingAndRunningRows() {
  return {
      {"StillStarting", kOne, {kStarting}, {}, {}},
      {"AllReady", kOne, {With(kStarting, [](JobView& job) { job.attempt.all_ready = true; })}, {"running a"}, {}},
      {"ReadyAndOver",
       kOne,
       {With(kStarting, [](JobView& job) { job.attempt.all_ready = job.attempt.all_ended = true; })},
       {"running a"},
       {}},
      {"StartTimeout",
       kOne,
       {With(kStarting, [](JobView& job) { job.attempt.launch_time = kNow - absl::Seconds(600); })},
       {"stop a START_TIMEOUT"},
       {}},
      {"OwnStartLimit",
       kOne,
       {With(kStarting, [](JobView& job) { job.limits.set_start_seconds(5); })},
       {"stop a START_TIMEOUT"},
       {}},
      {"RunsOn", kOne, {kRunning}, {}, {}},
      {"RunTimeout",
       kOne,
       {With(kRunning, [](JobView& job) { job.limits.set_run_seconds(4); })},
       {"stop a RUN_TIMEOUT"},
       {}},
      {"RunTimeOfEarlierAttemptsCounts",
       kOne,
       {With(kRunning,
             [](JobView& job) {
               job.limits.set_run_seconds(100);
               job.run_time = absl::Seconds(97);
             })},
       {"stop a RUN_TIMEOUT"},
       {}},
      {"EngineFailed",
       kOne,
       {With(kRunning,
             [](JobView& job) {
               job.attempt.failed = true;
               job.attempt.failure = {v1::JOB_REASON_GPU_OUT_OF_MEMORY, v1::BLAME_USER, "rank 1"};
             })},
       {"stop a GPU_OUT_OF_MEMORY"},
       {}},
  };
}

std::vector<Row> SilenceRows() {
  return {
      {"WorkerAwayWithinItsLease",
       kOne,
       {With(kRunning,
             [](JobView& job) {
               job.attempt.attached = false;
               job.attempt.last_attached = kNow - absl::Minutes(4);
             })},
       {},
       {}},
      {"WorkerAwayTooLong",
       kOne,
       {With(kRunning,
             [](JobView& job) {
               job.attempt.attached = false;
               job.attempt.last_attached = kNow - absl::Minutes(5);
             })},
       {"stop a WORKER_LOST"},
       {}},
      {"RankSilent",
       kOne,
       {With(kRunning, [](JobView& job) { job.attempt.last_heartbeat = kNow - absl::Minutes(10); })},
       {"stop a HUNG"},
       {}},
      {"SilenceOfAnUnattachedWorkerIsNoHang",
       kOne,
       {With(kRunning,
             [](JobView& job) {
               job.attempt.last_heartbeat = kNow - absl::Minutes(10);
               job.attempt.attached = false;
               job.attempt.last_attached = kNow;
             })},
       {},
       {}},
  };
}

std::vector<Row> EndingRows() {
  return {
      {"ProcessesGone", kOne, {With(kRunning, Lose)}, {"lost a"}, {}},
      {"ProcessesGoneWhileStarting", kOne, {With(kStarting, Lose)}, {"lost a"}, {}},
      {"EndedInOrder", kOne, {With(kRunning, [](JobView& job) { job.attempt.all_ended = true; })}, {"end a"}, {}},
      {"StopIsSentOnce", kOne, {With(kStopping, [](JobView& job) { job.attempt.stop_sent = false; })}, {"send a"}, {}},
      {"StoppingWaits", kOne, {kStopping}, {}, {}},
      {"GraceIsOver", kOne, {With(kStopping, [](JobView& job) { job.stop_deadline = kNow; })}, {"kill a"}, {}},
      {"KillIsSentOnce",
       kOne,
       {With(kStopping,
             [](JobView& job) {
               job.stop_deadline = kNow;
               job.attempt.kill_sent = true;
             })},
       {},
       {}},
      {"StoppedAtLast", kOne, {With(kStopping, [](JobView& job) { job.attempt.all_ended = true; })}, {"end a"}, {}},
      {"BackoffWaits",
       kOne,
       {With(Queued("a", 1, 1),
             [](JobView& job) {
               job.state = v1::JOB_STATE_BACKOFF;
               job.not_before = kNow + absl::Seconds(1);
             })},
       {},
       {}},
      {"BackoffIsOver",
       kOne,
       {With(Queued("a", 1, 1),
             [](JobView& job) {
               job.state = v1::JOB_STATE_BACKOFF;
               job.not_before = kNow;
             })},
       {"requeue a"},
       {}},
  };
}

INSTANTIATE_TEST_SUITE_P(StartingAndRunning, SchedulerTable, testing::ValuesIn(StartingAndRunningRows()),
                         [](const auto& info) { return info.param.name; });
INSTANTIATE_TEST_SUITE_P(Silence, SchedulerTable, testing::ValuesIn(SilenceRows()),
                         [](const auto& info) { return info.param.name; });
INSTANTIATE_TEST_SUITE_P(Ending, SchedulerTable, testing::ValuesIn(EndingRows()),
                         [](const auto& info) { return info.param.name; });

TEST(Scheduler, SaysWhenToLookAgain) {
  JobView job = Active("a", v1::JOB_STATE_STARTING, {0});
  job.limits.set_start_seconds(60);
  EXPECT_EQ(Decide({{Host("n1", 1)}, {job}}, kNow, {}).next_deadline, kNow + absl::Seconds(55));
  EXPECT_EQ(Decide({{Host("n1", 1)}, {}}, kNow, {}).next_deadline, absl::InfiniteFuture());
}

TEST(Scheduler, TellsAWaitingJobWhatItWaitsFor) {
  const Schedule schedule = Decide(
      {{Host("n1", 2)}, {Active("r", v1::JOB_STATE_RUNNING, {1}), Queued("a", 2, 2), Queued("b", 3, 1)}}, kNow, {});
  EXPECT_EQ(schedule.queued.at("a").message, "needs 2 CPU slots, of which 1 is free");
  EXPECT_EQ(schedule.queued.at("b").message, "number 2 in the queue, after name-a (a), which waits for 2 CPU slots");
}

TEST(Scheduler, SameViewSameAnswer) {
  const ClusterView view{{Host("n1", 2), Host("n2", 2)}, {Queued("a", 1, 1), Queued("b", 2, 2), Queued("c", 3, 2)}};
  EXPECT_EQ(Actions(Decide(view, kNow, {})), Actions(Decide(view, kNow, {})));
}

TEST(WhyNeverFits, SaysWhatThereIs) {
  EXPECT_EQ(WhyNeverFits({kCpu, 1, 2}, {Host("n1", 2)}), "");
  EXPECT_EQ(WhyNeverFits({kCpu, 1, 3}, {Host("n1", 2)}), "needs 3 CPU slots, but no host has more than 2 CPU slots");
  EXPECT_EQ(WhyNeverFits({kCuda, 1, 1}, {Host("n1", 2)}), "needs 1 GPU, but no host has more than 0 GPUs");
  EXPECT_EQ(WhyNeverFits({kCpu, 2, 2}, {Host("n1", 2), Host("n2", 1)}),
            "needs 2 hosts with 2 CPU slots each, but there is only 1 such");
}

}  // namespace
}  // namespace ithaca

// Jobs through the whole service, as users see them: real ithacad and ithaca-worker, engines that play scripts.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "proto/errors.h"
#include "proto/grpc_status.h"
#include "tests/cluster/mini_cluster.h"
#include "tests/fakes/wait_for.h"

namespace ithaca::cluster {
namespace {

using fakes::WaitFor;
using nlohmann::json;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<int64_t> OneTo(int64_t last) {
  std::vector<int64_t> all(static_cast<size_t>(last));
  std::iota(all.begin(), all.end(), 1);
  return all;
}

class LifecycleTest : public ::testing::Test {
 protected:
  json WaitAt(int step, const std::string& file) {
    return {{"at_step", step}, {"do", "wait_for_file"}, {"text", cluster_.path(file)}};
  }
  void Touch(const std::string& file) { std::ofstream(cluster_.path(file)) << "x"; }
  // Engines are gone when a terminal state is written; the worker, which has been told to go, follows.
  bool NoProcessesLeft() {
    return cluster_.Processes("fake-engine").empty() &&
           WaitFor([&] { return cluster_.Processes("ithaca-worker").empty(); });
  }

  MiniCluster cluster_;
};

TEST_F(LifecycleTest, ThreeJobsOnTwoSlotsAllSucceedInOrderEachOnce) {
  std::vector<std::string> ids;
  for (const char* name : {"first", "second", "third"})
    ids.push_back(cluster_.Submit(cluster_.FakeJob(name, 2, 20, {})));
  std::vector<double> starts;
  for (const std::string& id : ids) {
    ASSERT_TRUE(cluster_.WaitForState(id, v1::JOB_STATE_SUCCEEDED));
    EXPECT_THAT(cluster_.Steps(id), OneTo(20));
    const v1::Job job = cluster_.Get(id);
    EXPECT_EQ(job.attempt(), 1);
    const std::vector<v1::JobState> states = cluster_.States(id);
    EXPECT_EQ(states.front(), v1::JOB_STATE_QUEUED);
    EXPECT_EQ(states.back(), v1::JOB_STATE_SUCCEEDED);
    EXPECT_EQ(std::count(states.begin(), states.end(), v1::JOB_STATE_SUCCEEDED), 1);
    starts.push_back(static_cast<double>(job.start_time().seconds()) + 1e-9 * job.start_time().nanos());
  }
  EXPECT_LT(starts[0], starts[1]);
  EXPECT_LT(starts[1], starts[2]);
  EXPECT_TRUE(NoProcessesLeft());
}

TEST_F(LifecycleTest, CancelWorksInEveryState) {
  const std::string running = cluster_.Submit(cluster_.FakeJob("running", 2, 10, {{"actions", {WaitAt(3, "never")}}}));
  const std::string queued = cluster_.Submit(cluster_.FakeJob("queued", 2, 10, {}));
  ASSERT_TRUE(cluster_.WaitForState(running, v1::JOB_STATE_RUNNING));
  EXPECT_EQ(cluster_.Get(queued).state(), v1::JOB_STATE_QUEUED);
  EXPECT_TRUE(cluster_.Cancel(queued).ok());
  EXPECT_EQ(cluster_.Get(queued).state(), v1::JOB_STATE_CANCELLED);
  EXPECT_TRUE(cluster_.Cancel(running).ok());
  EXPECT_TRUE(cluster_.Cancel(running).ok()) << "while it is STOPPING";
  EXPECT_TRUE(cluster_.WaitForState(running, v1::JOB_STATE_CANCELLED));
  EXPECT_TRUE(NoProcessesLeft()) << "a terminal state is written when the processes are gone";
  EXPECT_TRUE(cluster_.Cancel(running).ok()) << "cancelling twice is no error";

  const std::string starting =
      cluster_.Submit(cluster_.FakeJob("starting", 1, 10, {{"actions", {WaitAt(0, "never")}}}));
  ASSERT_TRUE(WaitFor([&] { return !cluster_.Processes("fake-engine").empty(); }));
  EXPECT_EQ(cluster_.Get(starting).state(), v1::JOB_STATE_STARTING);
  EXPECT_TRUE(cluster_.Cancel(starting).ok());
  EXPECT_TRUE(cluster_.WaitForState(starting, v1::JOB_STATE_CANCELLED));

  v1::JobSpec spec =
      cluster_.FakeJob("backoff", 1, 10, {{"actions", {{{"at_step", 1}, {"do", "exit"}, {"value", 30}}}}});
  spec.mutable_restart()->set_backoff_seconds(3600);
  const std::string backoff = cluster_.Submit(spec);
  ASSERT_TRUE(cluster_.WaitForState(backoff, v1::JOB_STATE_BACKOFF));
  EXPECT_TRUE(cluster_.Cancel(backoff).ok());
  EXPECT_EQ(cluster_.Get(backoff).state(), v1::JOB_STATE_CANCELLED);

  const std::string done = cluster_.Submit(cluster_.FakeJob("done", 1, 2, {}));
  ASSERT_TRUE(cluster_.WaitForState(done, v1::JOB_STATE_SUCCEEDED));
  EXPECT_TRUE(cluster_.Cancel(done).ok());
  EXPECT_EQ(cluster_.Get(done).state(), v1::JOB_STATE_SUCCEEDED) << "what has ended stays as it is";
}

TEST_F(LifecycleTest, ACancelledJobSavesFirst) {
  const std::string id = cluster_.Submit(cluster_.FakeJob("saves", 2, 10, {{"actions", {WaitAt(3, "never")}}}));
  ASSERT_TRUE(WaitFor([&] { return cluster_.Get(id).progress().step() == 3; }));
  EXPECT_TRUE(cluster_.Cancel(id, 600).ok());
  ASSERT_TRUE(cluster_.WaitForState(id, v1::JOB_STATE_CANCELLED));
  const v1::Job job = cluster_.Get(id);
  ASSERT_EQ(job.checkpoints_size(), 1);
  EXPECT_EQ(job.checkpoints(0).step(), 3);
  EXPECT_TRUE(NoProcessesLeft());
}

TEST_F(LifecycleTest, ACancelWithoutTimeKillsEvenWhatAnEarlierCancelLetLive) {
  const json deaf = {{"at_step", 1}, {"do", "ignore_sigterm"}};
  const json hang = {{"at_step", 2}, {"do", "hang"}};
  const auto hanging = [&](const std::string& name) {
    const std::string id = cluster_.Submit(cluster_.FakeJob(name, 2, 10, {{"actions", {deaf, hang}}}));
    EXPECT_TRUE(WaitFor([&] { return cluster_.Get(id).progress().step() == 2; }));
    return id;
  };
  const std::string at_once = hanging("at-once");
  EXPECT_TRUE(cluster_.Cancel(at_once, 0).ok());
  ASSERT_TRUE(cluster_.WaitForState(at_once, v1::JOB_STATE_CANCELLED));
  EXPECT_EQ(cluster_.Get(at_once).checkpoints_size(), 0);

  const std::string patient = hanging("patient");
  EXPECT_TRUE(cluster_.Cancel(patient, 3600).ok());
  EXPECT_EQ(cluster_.Get(patient).state(), v1::JOB_STATE_STOPPING);
  EXPECT_TRUE(cluster_.Cancel(patient, 0).ok());
  EXPECT_TRUE(cluster_.WaitForState(patient, v1::JOB_STATE_CANCELLED));
  EXPECT_TRUE(NoProcessesLeft());
}

TEST_F(LifecycleTest, NothingInTheStateDirectoryIsForOthersToRead) {
  const std::string id = cluster_.Submit(cluster_.FakeJob("private", 2, 10, {{"actions", {WaitAt(3, "never")}}}));
  ASSERT_TRUE(WaitFor([&] { return cluster_.Get(id).progress().step() == 3; }));
  int files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(cluster_.path("state"))) {
    const auto others = std::filesystem::perms::group_all | std::filesystem::perms::others_all;
    EXPECT_EQ(entry.symlink_status().permissions() & others, std::filesystem::perms::none) << entry.path();
    ++files;
  }
  EXPECT_GT(files, 5);
}

TEST_F(LifecycleTest, AJobWithManyDocumentsIsStartedAndOneWithTooManyRefused) {
  v1::JobSpec spec = cluster_.FakeJob("many", 1, 2, {});
  const auto add = [&](int documents) {
    for (int i = 0; i < documents; ++i) {
      spec.mutable_data()->add_train()->set_path(cluster_.path(absl::StrCat("a-document-with-a-long-name-", i)));
    }
  };
  add(5000);
  EXPECT_TRUE(cluster_.WaitForState(cluster_.Submit(spec), v1::JOB_STATE_SUCCEEDED));
  add(20000);
  v1::CreateJobRequest request;
  *request.mutable_job_spec() = spec;
  grpc::ClientContext context;
  v1::Job job;
  const grpc::Status status = cluster_.jobs().CreateJob(&context, request, &job);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  const FieldMistakes mistakes = MistakesOf(FromGrpcStatus(status));
  ASSERT_EQ(mistakes.size(), 1u);
  EXPECT_EQ(mistakes[0].field, "data.train");
}

TEST_F(LifecycleTest, FiveMistakesComeBackInOneAnswer) {
  v1::JobSpec spec = cluster_.FakeJob("right", 1, 1, {});
  spec.set_name("Not A Label");
  spec.clear_model();
  spec.mutable_data()->set_sequence_length(1);
  spec.mutable_training()->set_learning_rate(-1);
  spec.mutable_restart()->set_max_restarts(-2);
  v1::CreateJobRequest request;
  *request.mutable_job_spec() = spec;
  grpc::ClientContext context;
  v1::Job job;
  const grpc::Status status = cluster_.jobs().CreateJob(&context, request, &job);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  std::vector<std::string> fields;
  for (const FieldMistake& mistake : MistakesOf(FromGrpcStatus(status))) fields.push_back(mistake.field);
  EXPECT_THAT(fields, ::testing::UnorderedElementsAre("name", "model", "data.sequence_length", "training.learning_rate",
                                                      "restart.max_restarts"));
}

TEST_F(LifecycleTest, ACrashedEngineFailsTheJobWithRankAndSignal) {
  v1::JobSpec spec = cluster_.FakeJob("crash", 2, 1000000,
                                      {{"step_seconds", 0.001},
                                       {"actions",
                                        {{{"at_step", 3}, {"rank", 1}, {"do", "log"}, {"text", "about to fall"}},
                                         {{"at_step", 3}, {"rank", 1}, {"do", "signal"}, {"value", SIGSEGV}}}}});
  spec.mutable_restart()->set_max_restarts(0);
  const std::string id = cluster_.Submit(spec);
  ASSERT_TRUE(cluster_.WaitForState(id, v1::JOB_STATE_FAILED));
  const v1::Job job = cluster_.Get(id);
  EXPECT_THAT(job.message(), HasSubstr("rank 1"));
  EXPECT_THAT(job.message(), HasSubstr("signal 11"));
  EXPECT_THAT(job.message(), HasSubstr("about to fall"));
  EXPECT_TRUE(NoProcessesLeft());
}

TEST_F(LifecycleTest, AMistakeOfTheUserIsNotTriedAgain) {
  const std::string id = cluster_.Submit(cluster_.FakeJob(
      "bad-data", 1, 5, {{"actions", {{{"at_step", 0}, {"do", "fail"}, {"value", 11}, {"text", "invalid_data"}}}}}));
  ASSERT_TRUE(cluster_.WaitForState(id, v1::JOB_STATE_FAILED));
  const v1::Job job = cluster_.Get(id);
  EXPECT_EQ(job.reason(), v1::JOB_REASON_INVALID_DATA);
  EXPECT_EQ(job.blame(), v1::BLAME_USER);
  EXPECT_EQ(job.attempt(), 1);
  EXPECT_THAT(job.message(), HasSubstr("the script said: invalid_data"));
}

TEST_F(LifecycleTest, AnEngineThatFailsOnceIsStartedAgainAndTheCurveIsTheNewestAttempts) {
  const std::string id = cluster_.Submit(cluster_.FakeJob(
      "once", 2, 10, {{"actions", {{{"at_step", 5}, {"rank", 0}, {"attempt", 1}, {"do", "exit"}, {"value", 30}}}}}));
  ASSERT_TRUE(cluster_.WaitForState(id, v1::JOB_STATE_SUCCEEDED));
  EXPECT_EQ(cluster_.Get(id).attempt(), 2);
  EXPECT_THAT(cluster_.Steps(id), OneTo(10));
}

TEST_F(LifecycleTest, AKilledWorkerTakesItsEnginesAlongAndTheJobIsStartedAgain) {
  const std::string id = cluster_.Submit(cluster_.FakeJob(
      "worker", 2, 10,
      {{"actions", {{{"at_step", 5}, {"attempt", 1}, {"do", "wait_for_file"}, {"text", "/nonexistent"}}}}}));
  ASSERT_TRUE(cluster_.WaitForState(id, v1::JOB_STATE_RUNNING));
  const std::vector<pid_t> engines = cluster_.Processes("fake-engine");
  ASSERT_EQ(engines.size(), 2u);
  const std::optional<pid_t> worker = cluster_.WorkerOf(id);
  ASSERT_TRUE(worker.has_value());
  ::kill(*worker, SIGKILL);
  ASSERT_TRUE(cluster_.WaitForState(id, v1::JOB_STATE_SUCCEEDED));
  EXPECT_EQ(cluster_.Get(id).attempt(), 2);
  EXPECT_THAT(cluster_.Steps(id), OneTo(10));
  EXPECT_THAT(cluster_.Processes("fake-engine"), Not(Contains(engines[0])));
}

TEST_F(LifecycleTest, LogsOfEveryRankCanBeRead) {
  const std::string id = cluster_.Submit(cluster_.FakeJob(
      "logs", 2, 2, {{"actions", {{{"at_step", 1}, {"do", "log"}, {"text", "hello from an engine"}}}}}));
  ASSERT_TRUE(cluster_.WaitForState(id, v1::JOB_STATE_SUCCEEDED));
  v1::StreamLogsRequest request;
  request.set_job_id(id);
  request.set_follow(true);
  grpc::ClientContext context;
  const auto stream = cluster_.jobs().StreamLogs(&context, request);
  std::map<int, std::string> logs;
  for (v1::StreamLogsResponse response; stream->Read(&response);) logs[response.rank()] += response.data();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_THAT(logs, ElementsAre(std::pair(0, "hello from an engine\n"), std::pair(1, "hello from an engine\n")));
}

TEST_F(LifecycleTest, WatchShowsTheJobToItsEnd) {
  v1::WatchJobRequest request;
  request.set_job_id(cluster_.Submit(cluster_.FakeJob("watch", 1, 5, {{"actions", {WaitAt(2, "go")}}})));
  grpc::ClientContext context;
  const auto stream = cluster_.jobs().WatchJob(&context, request);
  std::vector<v1::JobState> states;
  for (v1::WatchJobResponse response; stream->Read(&response);) {
    if (response.job().progress().step() == 2) Touch("go");
    if (states.empty() || states.back() != response.job().state()) states.push_back(response.job().state());
  }
  EXPECT_TRUE(stream->Finish().ok());
  ASSERT_FALSE(states.empty());
  EXPECT_THAT(states, Contains(v1::JOB_STATE_RUNNING));
  EXPECT_EQ(states.back(), v1::JOB_STATE_SUCCEEDED);
}

TEST_F(LifecycleTest, WhatIsNotOfferedYetSaysSo) {
  v1::PauseJobRequest request;
  request.set_job_id("any");
  grpc::ClientContext context;
  v1::Job job;
  const grpc::Status status = cluster_.jobs().PauseJob(&context, request, &job);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_THAT(status.error_message(), HasSubstr("cannot pause a job yet."));
}

TEST_F(LifecycleTest, MetricsAndThePageShowARunningJob) {
  const std::string id = cluster_.Submit(cluster_.FakeJob("shown", 2, 10, {{"actions", {WaitAt(4, "never")}}}));
  ASSERT_TRUE(cluster_.WaitForState(id, v1::JOB_STATE_RUNNING));
  ASSERT_TRUE(WaitFor([&] { return cluster_.Get(id).progress().step() == 4; }));
  const std::string labels = "{job=\"" + id + "\",job_name=\"shown\"";
  ASSERT_TRUE(
      WaitFor([&] { return cluster_.Get(id).ranks_size() == 2 && cluster_.Get(id).ranks(1).peak_memory_bytes() > 0; }));
  const std::string metrics = cluster_.Fetch("/metrics");
  for (const std::string& line :
       {"ithaca_job_step" + labels + "} 4\n", "ithaca_job_loss" + labels + "} 1\n",
        "ithaca_job_tokens_total" + labels + "} 16384\n", "ithaca_job_tokens_per_second" + labels + "} 8192\n",
        "ithaca_rank_memory_peak_bytes" + labels + ",rank=\"1\"} 150000",
        "ithaca_job_state" + labels + ",state=\"running\"} 1\n", std::string("ithaca_slots_used{device=\"cpu\"} 2\n"),
        std::string("ithaca_jobs{state=\"running\"} 1\n"),
        std::string("method=\"CreateJob\",service=\"ithaca.v1.JobService\"} 1\n")}) {
    EXPECT_THAT(metrics, HasSubstr(line));
  }
  const std::string page = cluster_.Fetch("/");
  EXPECT_THAT(page, HasSubstr("shown"));
  EXPECT_THAT(page, HasSubstr("1.0000"));
  EXPECT_THAT(page, HasSubstr("8,192"));
  EXPECT_THAT(page, HasSubstr("rank 1"));
  EXPECT_EQ(cluster_.Fetch("/healthz"), "ok\n");
}

}  // namespace
}  // namespace ithaca::cluster

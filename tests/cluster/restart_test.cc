// The coordinator goes away in the middle, well or badly, and comes back on the same state; and what must not start.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>
#include <numeric>

#include "tests/cluster/mini_cluster.h"
#include "tests/fakes/wait_for.h"

namespace ithaca::cluster {
namespace {

using fakes::WaitFor;
using nlohmann::json;
using ::testing::HasSubstr;

std::vector<int64_t> OneTo(int64_t last) {
  std::vector<int64_t> all(static_cast<size_t>(last));
  std::iota(all.begin(), all.end(), 1);
  return all;
}

class RestartTest : public ::testing::Test {
 protected:
  // A job that trains 500 steps, and waits at step 100 until `file` is there.
  std::string SubmitGated(const std::string& name, int ranks, const std::string& file) {
    return cluster_.Submit(cluster_.FakeJob(
        name, ranks, 500, {{"actions", {{{"at_step", 100}, {"do", "wait_for_file"}, {"text", cluster_.path(file)}}}}}));
  }
  void Touch(const std::string& file) { std::ofstream(cluster_.path(file)) << "x"; }
  bool AtStep(const std::string& id, int64_t step) {
    return WaitFor([&] { return cluster_.Get(id).progress().step() == step; });
  }
  bool AtStepOrBeyond(const std::string& id, int64_t step) {
    return WaitFor([&] { return cluster_.Get(id).progress().step() >= step; });
  }

  MiniCluster cluster_;
};

TEST_F(RestartTest, TrainingGoesOnWhileADrainedCoordinatorIsAway) {
  const std::string id = SubmitGated("drained", 2, "gate");
  ASSERT_TRUE(AtStep(id, 100));
  const std::vector<pid_t> engines = cluster_.Processes("fake-engine");
  EXPECT_EQ(cluster_.Terminate(), 0);
  EXPECT_EQ(cluster_.Processes("fake-engine"), engines) << "a drain leaves engines alone";
  Touch("gate");
  ASSERT_TRUE(WaitFor([&] { return cluster_.Processes("fake-engine").empty(); })) << "they trained to the end alone";
  cluster_.Start();
  ASSERT_TRUE(cluster_.WaitForState(id, v1::JOB_STATE_SUCCEEDED));
  EXPECT_EQ(cluster_.Get(id).attempt(), 1);
  EXPECT_THAT(cluster_.Steps(id), OneTo(500));
}

TEST_F(RestartTest, AKilledCoordinatorTakesUpItsRunningJobs) {
  const std::string id = SubmitGated("killed", 2, "gate");
  const std::string queued = cluster_.Submit(cluster_.FakeJob("queued", 2, 5, {}));
  ASSERT_TRUE(AtStep(id, 100));
  const std::vector<pid_t> engines = cluster_.Processes("fake-engine");
  cluster_.Kill();
  cluster_.Start();
  Touch("gate");
  ASSERT_TRUE(cluster_.WaitForState(id, v1::JOB_STATE_SUCCEEDED));
  EXPECT_EQ(cluster_.Get(id).attempt(), 1) << "it was taken up, not started again";
  EXPECT_THAT(cluster_.Steps(id), OneTo(500));
  ASSERT_TRUE(cluster_.WaitForState(queued, v1::JOB_STATE_SUCCEEDED));
  EXPECT_THAT(cluster_.Steps(queued), OneTo(5));
}

TEST_F(RestartTest, ManyKillsInARowLoseAndDoubleNothing) {
  std::vector<std::string> ids;
  for (int i = 0; i < 4; ++i) {
    ids.push_back(cluster_.Submit(cluster_.FakeJob("job-" + std::to_string(i), 1, 300, {{"step_seconds", 0.01}})));
  }
  for (int kill = 0; kill < 4; ++kill) {
    ASSERT_TRUE(AtStepOrBeyond(ids[kill / 2], 20 + 50 * (kill % 2)));
    cluster_.Kill();
    cluster_.Start();
  }
  for (const std::string& id : ids) {
    ASSERT_TRUE(cluster_.WaitForState(id, v1::JOB_STATE_SUCCEEDED));
    EXPECT_EQ(cluster_.Get(id).attempt(), 1);
    EXPECT_THAT(cluster_.Steps(id), OneTo(300));
  }
}

TEST_F(RestartTest, AJobCancelledJustBeforeAKillEndsCancelled) {
  const std::string id = SubmitGated("cancelled", 2, "never");
  ASSERT_TRUE(AtStep(id, 100));
  EXPECT_TRUE(cluster_.Cancel(id).ok());
  cluster_.Kill();
  cluster_.Start();
  EXPECT_TRUE(cluster_.WaitForState(id, v1::JOB_STATE_CANCELLED));
  EXPECT_TRUE(cluster_.Processes("fake-engine").empty());
}

TEST_F(RestartTest, AWorkerThatDiesWhileNobodyLooksIsMissed) {
  const std::string id = SubmitGated("lost", 1, "gate");
  ASSERT_TRUE(AtStep(id, 100));
  const std::optional<pid_t> worker = cluster_.WorkerOf(id);
  ASSERT_TRUE(worker.has_value());
  cluster_.Kill();
  ::kill(*worker, SIGKILL);
  Touch("gate");
  cluster_.Start();
  ASSERT_TRUE(cluster_.WaitForState(id, v1::JOB_STATE_SUCCEEDED));
  EXPECT_EQ(cluster_.Get(id).attempt(), 2);
  EXPECT_THAT(cluster_.Steps(id), OneTo(500));
}

TEST_F(RestartTest, AWatcherIsToldToComeBackWhenTheCoordinatorDrains) {
  v1::WatchJobRequest request;
  request.set_job_id(SubmitGated("watched", 1, "never"));
  ASSERT_TRUE(AtStep(request.job_id(), 100));
  grpc::ClientContext context;
  const auto stream = cluster_.jobs().WatchJob(&context, request);
  v1::WatchJobResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(cluster_.Terminate(), 0);
  while (stream->Read(&response)) {
  }
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
  cluster_.Start();
  EXPECT_TRUE(cluster_.Cancel(request.job_id()).ok());
  EXPECT_TRUE(cluster_.WaitForState(request.job_id(), v1::JOB_STATE_CANCELLED));
}

TEST_F(RestartTest, ASecondCoordinatorOnTheSameStateIsRefused) {
  const Ended second = cluster_.RunToEnd({"--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"});
  EXPECT_EQ(second.exit_code, 2);
  EXPECT_THAT(second.output, HasSubstr("Another coordinator (process "));
}

TEST_F(RestartTest, APortInUseIsOneClearSentence) {
  const Ended grpc =
      cluster_.RunToEnd({"--listen", cluster_.grpc_address(), "--http", "127.0.0.1:0"}, cluster_.path("other"));
  EXPECT_EQ(grpc.exit_code, 1);
  EXPECT_EQ(grpc.output, "ithacad: Cannot listen for gRPC on " + cluster_.grpc_address() +
                             ": the port is in use or the address is not one of this machine's.\n");
  const Ended http =
      cluster_.RunToEnd({"--listen", "127.0.0.1:0", "--http", cluster_.http_address()}, cluster_.path("other"));
  EXPECT_EQ(http.exit_code, 1);
  EXPECT_EQ(http.output, "ithacad: Cannot listen for HTTP on " + cluster_.http_address() +
                             ": the port is in use or the address is not one of this machine's.\n");
}

TEST_F(RestartTest, AddressesThatOthersCanReachNeedTlsOrAnExplicitWord) {
  const Ended grpc = cluster_.RunToEnd({"--listen", "0.0.0.0:0", "--http", "127.0.0.1:0"}, cluster_.path("other"));
  EXPECT_EQ(grpc.exit_code, 2);
  EXPECT_THAT(grpc.output, HasSubstr("--listen 0.0.0.0:0 can be reached from other machines"));
  const Ended http =
      cluster_.RunToEnd({"--listen", "127.0.0.1:0", "--http", "[::]:0", "--insecure-listen"}, cluster_.path("other"));
  EXPECT_EQ(http.exit_code, 2);
  EXPECT_THAT(http.output, HasSubstr("--http [::]:0 can be reached from other machines"));
  EXPECT_THAT(http.output, HasSubstr("give --insecure-http"));
}

}  // namespace
}  // namespace ithaca::cluster

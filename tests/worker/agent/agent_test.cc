// A whole worker in this process, with real fake-engine processes and a fake coordinator on a unix socket.

#include "worker/agent/agent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "proto/message_limits.h"
#include "tests/fakes/fake_coordinator.h"
#include "tests/fakes/temporary_directory.h"
#include "tests/fakes/wait_for.h"

namespace ithaca {
namespace {

using fakes::FakeCoordinator;
using fakes::WaitFor;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class AgentTest : public ::testing::Test {
 protected:
  ~AgentTest() override {
    if (!thread_.joinable()) return;
    coordinator_->RefuseWith(grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "the test is over"));
    coordinator_->Stop();
    coordinator_->Start();
    thread_.join();
  }

  // Starts a worker whose engines play `script` for `steps` steps on `ranks` ranks.
  void StartWorker(int ranks, int steps, const json& script, absl::Duration peer_grace = absl::Seconds(60)) {
    std::ofstream(directory_.path() + "/fake_engine.json") << script.dump();
    v1::Assignment assignment;
    const json run = {{"name", padding_}, {"model", {{"path", directory_.path()}}}, {"training", {{"steps", steps}}}};
    assignment.set_run_json(run.dump());
    assignment.set_world_size(ranks);
    for (int rank = 0; rank < ranks; ++rank) {
      v1::RankAssignment* one = assignment.add_ranks();
      one->set_rank(rank);
      one->set_local_rank(rank);
    }
    coordinator_ = std::make_unique<FakeCoordinator>(directory_.path() + "/socket", assignment);
    AgentOptions options;
    options.coordinator = coordinator_->target();
    options.job_id = "job";
    options.attempt = 1;
    options.token = "secret";
    options.engine = FAKE_ENGINE;
    options.work_directory = directory_.path();
    options.host = "testhost";
    options.peer_grace = peer_grace;
    if (!engine_.empty()) options.engine = engine_;
    thread_ = std::thread([this, options] { result_ = Agent(options).Run(); });
  }

  absl::Status Join() {
    thread_.join();
    return result_;
  }

  std::vector<int64_t> Steps() {
    std::vector<int64_t> steps;
    FakeCoordinator::Heard heard = coordinator_->heard();
    for (const std::string& event : heard.events[0]) {
      const json parsed = json::parse(event);
      if (parsed["event"] == "step" && parsed["step"].is_number()) steps.push_back(parsed["step"]);
    }
    return steps;
  }

  std::string File(const std::string& name) const { return directory_.path() + "/" + name; }
  void Touch(const std::string& name) const { std::ofstream(File(name)) << "x"; }
  json Gate(int step) const { return {{"at_step", step}, {"do", "wait_for_file"}, {"text", File("gate")}}; }
  bool AllEnginesGone() {
    const auto engines = coordinator_->heard().last_hello.engines();
    return std::all_of(engines.begin(), engines.end(), [](const auto& engine) { return ::kill(engine.pid(), 0) != 0; });
  }

  fakes::TemporaryDirectory directory_;
  std::string engine_;
  std::string padding_;  // of the assignment
  std::unique_ptr<FakeCoordinator> coordinator_;
  std::thread thread_;
  absl::Status result_;
};

TEST_F(AgentTest, RunsAllRanksAndDeliversEveryEventLogAndExit) {
  StartWorker(3, 5, {{"actions", {{{"at_step", 2}, {"do", "log"}, {"text", "a line"}}}}});
  EXPECT_TRUE(Join().ok());
  const FakeCoordinator::Heard heard = coordinator_->heard();
  EXPECT_THAT(Steps(), ElementsAre(1, 2, 3, 4, 5));
  EXPECT_EQ(heard.gaps, 0);
  EXPECT_EQ(heard.listenings, 1);
  EXPECT_TRUE(heard.done);
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(heard.logs.at(rank), "a line\n");
    ASSERT_EQ(heard.exits.at(rank).size(), 1u);
    EXPECT_EQ(heard.exits.at(rank)[0].exit_code(), 0);
    EXPECT_EQ(heard.heartbeats.at(rank).step(), 5);
  }
  const json result = json::parse(std::ifstream(File("result.json")));
  EXPECT_EQ(result["engines"].size(), 3u);
}

TEST_F(AgentTest, TrainingGoesOnWithoutACoordinatorAndNothingIsLostOrDoubled) {
  StartWorker(2, 200, {{"step_seconds", 0.002}, {"actions", {Gate(150)}}});
  ASSERT_TRUE(WaitFor([&] { return Steps().size() >= 3; }));
  coordinator_->Stop();
  Touch("gate");
  ASSERT_TRUE(WaitFor([&] { return std::filesystem::exists(File("result.json")); }))
      << "the engines went on to the end";
  coordinator_->Start();
  EXPECT_TRUE(Join().ok());
  std::vector<int64_t> all(200);
  for (int i = 0; i < 200; ++i) all[i] = i + 1;
  EXPECT_EQ(Steps(), all);
  EXPECT_EQ(coordinator_->heard().gaps, 0);
  EXPECT_GE(coordinator_->heard().hellos, 2);
  EXPECT_EQ(coordinator_->heard().last_hello.engines_size(), 2);
}

TEST_F(AgentTest, SendsAgainWhatWasHeardButNotStored) {
  StartWorker(1, 3, json::object());
  coordinator_->SetForgetful(true);
  ASSERT_TRUE(WaitFor([&] { return coordinator_->heard().done; }));
  coordinator_->Stop();
  coordinator_->SetForgetful(false);
  coordinator_->Start();
  EXPECT_TRUE(Join().ok());
  EXPECT_THAT(Steps(), ElementsAre(1, 2, 3));
  EXPECT_GE(coordinator_->heard().exits.at(0).size(), 2u);
}

TEST_F(AgentTest, ReportsTheSignalOfACrashedRankAndTheOthersFollow) {
  StartWorker(
      3, 1000000,
      {{"step_seconds", 0.001}, {"actions", {{{"at_step", 3}, {"rank", 1}, {"do", "signal"}, {"value", SIGSEGV}}}}});
  EXPECT_TRUE(Join().ok());
  FakeCoordinator::Heard heard = coordinator_->heard();
  EXPECT_EQ(heard.exits.at(1)[0].signal(), SIGSEGV);
  EXPECT_EQ(heard.exits.at(0)[0].exit_code(), 31) << "rank 0 saw its peer go";
  EXPECT_THAT(heard.exits.at(0)[0].failed_json(), HasSubstr("peer_lost"));
  EXPECT_EQ(heard.exits.at(2).size(), 1u);
}

TEST_F(AgentTest, KillsRanksThatHangAfterAnotherHasFailed) {
  const json hang = {{"at_step", 1}, {"rank", 0}, {"do", "hang"}};
  const json wait = {{"at_step", 1}, {"rank", 1}, {"do", "wait_for_file"}, {"text", File("gate")}};
  const json fall = {{"at_step", 1}, {"rank", 1}, {"do", "exit"}, {"value", 20}};
  StartWorker(2, 1000000, {{"actions", {hang, wait, fall}}}, absl::Milliseconds(50));
  ASSERT_TRUE(WaitFor([&] { return !Steps().empty(); })) << "rank 0 hangs right after its first step";
  Touch("gate");
  EXPECT_TRUE(Join().ok());
  FakeCoordinator::Heard heard = coordinator_->heard();
  EXPECT_EQ(heard.exits.at(1)[0].exit_code(), 20);
  EXPECT_EQ(heard.exits.at(0)[0].signal(), SIGKILL);
}

TEST_F(AgentTest, StopWithSaveLetsEnginesEndByThemselves) {
  StartWorker(2, 1000000, {{"step_seconds", 0.001}});
  ASSERT_TRUE(WaitFor([&] { return !Steps().empty(); }));
  v1::CoordinatorMessage stop;
  stop.mutable_stop()->set_save(true);
  stop.mutable_stop()->set_grace_seconds(600);
  coordinator_->SendToAll(stop);
  EXPECT_TRUE(Join().ok());
  FakeCoordinator::Heard heard = coordinator_->heard();
  EXPECT_EQ(heard.exits.at(0)[0].exit_code(), 75);
  EXPECT_EQ(heard.exits.at(1)[0].exit_code(), 75);
}

TEST_F(AgentTest, StopKillsEnginesThatIgnoreItOnceTheGraceIsOver) {
  StartWorker(1, 1000000, {{"step_seconds", 0.001}, {"actions", {{{"at_step", 0}, {"do", "ignore_sigterm"}}}}});
  ASSERT_TRUE(WaitFor([&] { return !Steps().empty(); }));
  v1::CoordinatorMessage stop;
  stop.mutable_stop()->set_save(true);
  coordinator_->SendToAll(stop);
  EXPECT_TRUE(Join().ok());
  EXPECT_EQ(coordinator_->heard().exits.at(0)[0].signal(), SIGKILL);
}

TEST_F(AgentTest, AnAssignmentAsLargeAsTheCoordinatorMaySendArrives) {
  padding_ = std::string(kMaxMessageBytes - 4096, 'x');
  StartWorker(1, 3, json::object());
  EXPECT_TRUE(Join().ok());
  EXPECT_THAT(Steps(), ElementsAre(1, 2, 3));
}

TEST(PollMilliseconds, WithoutADeadlineTheWorkerSleeps) {
  EXPECT_GE(PollMilliseconds(absl::InfiniteDuration()), 1000);
  EXPECT_GE(PollMilliseconds(absl::Hours(24 * 365)), 1000);
  EXPECT_LE(PollMilliseconds(absl::Hours(24 * 365)), 3600 * 1000);
}

TEST(PollMilliseconds, ItWakesRightAfterItsDeadline) {
  EXPECT_EQ(PollMilliseconds(absl::Milliseconds(250)), 251);
  EXPECT_EQ(PollMilliseconds(absl::ZeroDuration()), 1);
  EXPECT_EQ(PollMilliseconds(-absl::InfiniteDuration()), 1);
}

TEST_F(AgentTest, AFencedWorkerEndsItsEnginesAndItself) {
  StartWorker(2, 1000000, {{"step_seconds", 0.001}});
  ASSERT_TRUE(WaitFor([&] { return coordinator_->heard().heartbeats.size() == 2; }));
  coordinator_->RefuseWith(grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "attempt 2 has begun"));
  coordinator_->Stop();
  coordinator_->Start();
  const absl::Status status = Join();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_TRUE(AllEnginesGone());
}

TEST_F(AgentTest, GarbageAndAFloodFromAnEngineHarmNothingElse) {
  StartWorker(
      1, 3,
      {{"actions",
        {{{"at_step", 1}, {"do", "garbage"}, {"value", 100}}, {{"at_step", 2}, {"do", "flood"}, {"value", 50000}}}}});
  EXPECT_TRUE(Join().ok());
  EXPECT_THAT(Steps(), ElementsAre(1, 2, 3));
  const FakeCoordinator::Heard heard = coordinator_->heard();
  EXPECT_EQ(heard.gaps, 0);
  EXPECT_GT(heard.events.at(0).size(), 50000u);
}

TEST_F(AgentTest, AnEngineThatCannotBeStartedIsReportedWithTheReason) {
  engine_ = directory_.path() + "/no-such-engine";
  StartWorker(2, 1, json::object());
  EXPECT_TRUE(Join().ok());
  FakeCoordinator::Heard heard = coordinator_->heard();
  EXPECT_EQ(heard.exits.at(0)[0].exit_code(), 127);
  EXPECT_THAT(heard.exits.at(0)[0].failed_json(), HasSubstr("No such file or directory"));
}

}  // namespace
}  // namespace ithaca

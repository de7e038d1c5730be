#include "server/core/reconciler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "absl/strings/str_cat.h"
#include "server/store/memory_store.h"
#include "tests/server/core/service_fixture.h"

namespace ithaca {
namespace {

using testing::HasSubstr;
using Kind = v1::CoordinatorMessage;

class ReconcilerTest : public testing::Test {
 protected:
  std::string Running(const v1::JobSpec& spec) {
    const std::string id = service_.Create(spec).id();
    service_.Settle();
    link_ = service_.Attach(id);
    service_.AllReady(id);
    service_.Settle();
    EXPECT_EQ(service_.Get(id).state(), v1::JOB_STATE_RUNNING);
    return id;
  }

  TemporaryDirectory directory_;
  MemoryStore store_;
  FakeClock clock_;
  FakeLauncher launcher_;
  Service service_{store_, directory_.path(), clock_, launcher_};
  std::shared_ptr<FakeLink> link_;
};

TEST_F(ReconcilerTest, AJobLivesFromQueuedToSucceeded) {
  const std::string id = Running(SpecFor(2));
  ASSERT_EQ(launcher_.started.size(), 1u);
  EXPECT_EQ(launcher_.started[0].attempt, 1);
  EXPECT_EQ(launcher_.started[0].node.slots, (std::vector<int>{0, 1}));
  service_.Exit(id, 0, 0);
  service_.Settle();
  EXPECT_EQ(service_.Get(id).state(), v1::JOB_STATE_RUNNING) << "a rank is still there";
  service_.Exit(id, 1, 0);
  service_.Done(id);
  service_.Settle();
  const v1::Job job = service_.Get(id);
  EXPECT_EQ(job.state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(job.reason(), v1::JOB_REASON_COMPLETED);
  EXPECT_TRUE(job.has_end_time());
  EXPECT_TRUE(link_->Last(Kind::kFinish).has_value());
  EXPECT_TRUE(store_.Load()->attempts[0].token.empty());
}

TEST_F(ReconcilerTest, ThreeJobsOnTwoSlotsRunInOrderNoneTwice) {
  std::vector<std::string> ids;
  for (const char* name : {"a", "b", "c"}) ids.push_back(service_.Create(SpecFor(1, name)).id());
  service_.Settle();
  EXPECT_EQ(service_.Get(ids[1]).state(), v1::JOB_STATE_STARTING);
  EXPECT_EQ(service_.Get(ids[2]).state(), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(service_.Get(ids[2]).reason(), v1::JOB_REASON_WAITING_FOR_SLOTS);
  for (const std::string& id : ids) {
    service_.Attach(id);
    service_.Succeed(id);
    EXPECT_EQ(service_.Get(id).state(), v1::JOB_STATE_SUCCEEDED);
  }
  ASSERT_EQ(launcher_.started.size(), 3u);
  for (size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(launcher_.started[i].job_id, ids[i]);
  for (const SlotUse& use : service_.table.Slots()) EXPECT_EQ(use.used, 0);
}

TEST_F(ReconcilerTest, TheIntentIsStoredBeforeTheLaunch) {
  store_.FailWith(absl::UnavailableError("no disk"));
  EXPECT_FALSE(service_.registry.Create({}, SpecFor(2), {}).ok());
  store_.FailWith(absl::OkStatus());
  const std::string id = service_.Create(SpecFor(2)).id();
  store_.FailWith(absl::UnavailableError("no disk"));
  service_.Settle();
  EXPECT_TRUE(launcher_.started.empty()) << "nothing is launched that is not on disk";
  EXPECT_FALSE(service_.reconciler.last_error().ok());
  EXPECT_EQ(service_.Get(id).state(), v1::JOB_STATE_QUEUED);
  store_.FailWith(absl::OkStatus());
  service_.Settle();
  EXPECT_EQ(launcher_.started.size(), 1u);
  EXPECT_TRUE(service_.reconciler.last_error().ok());
}

TEST_F(ReconcilerTest, AFailureOfTheUserIsFinalOnceAllProcessesAreGone) {
  const std::string id = Running(SpecFor(2));
  service_.Exit(id, 1, 11, 0, R"({"message":"book.txt:3 is empty"})");
  service_.Settle();
  EXPECT_EQ(service_.Get(id).state(), v1::JOB_STATE_STOPPING) << "rank 0 is still there";
  ASSERT_TRUE(link_->Last(Kind::kStop).has_value());
  EXPECT_EQ(link_->Last(Kind::kStop)->stop().reason(), v1::JOB_REASON_INVALID_DATA);
  EXPECT_FALSE(link_->Last(Kind::kStop)->stop().save());
  clock_.Advance(absl::Seconds(1));
  service_.Exit(id, 0, 0, SIGKILL);
  service_.Done(id);
  service_.Settle();
  const v1::Job job = service_.Get(id);
  EXPECT_EQ(job.state(), v1::JOB_STATE_FAILED);
  EXPECT_EQ(job.reason(), v1::JOB_REASON_INVALID_DATA);
  EXPECT_EQ(job.blame(), v1::BLAME_USER);
  EXPECT_THAT(job.message(), HasSubstr("book.txt:3 is empty"));
  EXPECT_EQ(launcher_.started.size(), 1u);
}

TEST_F(ReconcilerTest, AKilledRankIsTriedAgainFromTheNewestCheckpoint) {
  const std::string id = Running(SpecFor(2));
  ASSERT_TRUE(service_.Report(id, 0, R"({"event":"checkpoint","step":5,"path":"/c/5"})").ok());
  service_.Exit(id, 1, 0, SIGKILL);
  service_.Exit(id, 0, 31);
  service_.Done(id);
  service_.Settle();
  v1::Job job = service_.Get(id);
  EXPECT_EQ(job.state(), v1::JOB_STATE_BACKOFF);
  EXPECT_THAT(job.message(), HasSubstr("SIGKILL"));
  clock_.Advance(absl::Seconds(9));
  service_.Settle();
  EXPECT_EQ(service_.Get(id).state(), v1::JOB_STATE_BACKOFF);
  clock_.Advance(absl::Seconds(1));
  service_.Settle();
  job = service_.Get(id);
  EXPECT_EQ(job.state(), v1::JOB_STATE_STARTING);
  EXPECT_EQ(job.attempt(), 2);
  const auto link = service_.Attach(id);
  EXPECT_THAT(link->messages[0].assignment().run_json(), HasSubstr(R"("resume_from": "latest")"));
  service_.Succeed(id);
  EXPECT_EQ(service_.Get(id).state(), v1::JOB_STATE_SUCCEEDED);
}

TEST_F(ReconcilerTest, RestartsRunOut) {
  v1::JobSpec spec = SpecFor(1);
  spec.mutable_restart()->set_max_restarts(2);
  const std::string id = service_.Create(spec).id();
  for (int attempt = 1; attempt <= 3; ++attempt) {
    service_.Settle();
    ASSERT_EQ(service_.Get(id).attempt(), attempt);
    service_.Attach(id);
    service_.Exit(id, 0, 70);
    service_.Done(id);
    service_.Settle();
    clock_.Advance(absl::Minutes(5));
  }
  const v1::Job job = service_.Get(id);
  EXPECT_EQ(job.state(), v1::JOB_STATE_FAILED);
  EXPECT_EQ(job.reason(), v1::JOB_REASON_RESTARTS_EXHAUSTED);
  EXPECT_THAT(job.message(), HasSubstr("code 70"));
}

TEST_F(ReconcilerTest, CancelOfARunningJobStopsThenKills) {
  const std::string id = Running(SpecFor(2));
  const auto stopping = service_.registry.Cancel(id, absl::Seconds(20));
  EXPECT_EQ(stopping->state(), v1::JOB_STATE_STOPPING);
  service_.Settle();
  ASSERT_TRUE(link_->Last(Kind::kStop).has_value());
  EXPECT_EQ(link_->Last(Kind::kStop)->stop().grace_seconds(), 20);
  EXPECT_TRUE(launcher_.killed.empty());
  clock_.Advance(absl::Seconds(25));
  launcher_.survive_kill = true;
  service_.Settle();
  EXPECT_EQ(launcher_.killed.size(), 1u);
  EXPECT_EQ(service_.Get(id).state(), v1::JOB_STATE_STOPPING) << "not before the processes are gone";
  launcher_.Die(launcher_.killed[0]);
  service_.Settle();
  EXPECT_EQ(service_.Get(id).state(), v1::JOB_STATE_CANCELLED);
}

TEST_F(ReconcilerTest, ACancelledJobIsAskedToSaveUnlessItGetsNoTime) {
  const std::string with_time = Running(SpecFor(2));
  ASSERT_TRUE(service_.registry.Cancel(with_time, absl::Seconds(20)).ok());
  service_.Settle();
  ASSERT_TRUE(link_->Last(Kind::kStop).has_value());
  EXPECT_TRUE(link_->Last(Kind::kStop)->stop().save());
  EXPECT_EQ(link_->Last(Kind::kStop)->stop().grace_seconds(), 20);
  service_.Exit(with_time, 0, 75);
  service_.Exit(with_time, 1, 75);
  service_.Done(with_time);
  service_.Settle();
  EXPECT_EQ(service_.Get(with_time).state(), v1::JOB_STATE_CANCELLED);

  const std::string at_once = Running(SpecFor(2));
  ASSERT_TRUE(service_.registry.Cancel(at_once, absl::ZeroDuration()).ok());
  service_.Settle();
  EXPECT_FALSE(link_->Last(Kind::kStop)->stop().save());
}

TEST_F(ReconcilerTest, ACancelWithLessTimeIsPassedOnAndOneWithMoreIsNot) {
  const std::string id = Running(SpecFor(2));
  ASSERT_TRUE(service_.registry.Cancel(id, absl::Minutes(10)).ok());
  service_.Settle();
  const size_t told = link_->messages.size();
  const std::string etag = service_.Get(id).etag();
  ASSERT_TRUE(service_.registry.Cancel(id, absl::Minutes(20)).ok());
  service_.Settle();
  EXPECT_EQ(link_->messages.size(), told);
  EXPECT_EQ(service_.Get(id).etag(), etag);

  ASSERT_TRUE(service_.registry.Cancel(id, absl::ZeroDuration()).ok());
  service_.Settle();
  EXPECT_EQ(link_->messages.size(), told + 1) << "once more, and only once";
  EXPECT_EQ(link_->Last(Kind::kStop)->stop().grace_seconds(), 0);
  EXPECT_FALSE(link_->Last(Kind::kStop)->stop().save());
  EXPECT_TRUE(launcher_.killed.empty());
  clock_.Advance(absl::Seconds(5));
  service_.Settle();
  EXPECT_EQ(launcher_.killed.size(), 1u) << "the deadline is the new one";
  EXPECT_EQ(service_.Get(id).state(), v1::JOB_STATE_CANCELLED);
}

TEST_F(ReconcilerTest, CancelWorksWhileStarting) {
  const std::string id = service_.Create(SpecFor(2)).id();
  service_.Settle();
  ASSERT_EQ(service_.Get(id).state(), v1::JOB_STATE_STARTING);
  ASSERT_TRUE(service_.registry.Cancel(id, std::nullopt).ok());
  service_.Settle();
  EXPECT_EQ(launcher_.terminated.size(), 1u) << "its worker is not attached, so the launcher tells it";
  launcher_.Die(launcher_.terminated[0]);
  service_.Settle();
  EXPECT_EQ(service_.Get(id).state(), v1::JOB_STATE_CANCELLED);
}

TEST_F(ReconcilerTest, CancelWorksInBackoff) {
  const std::string id = Running(SpecFor(1));
  service_.Exit(id, 0, 70);
  service_.Done(id);
  service_.Settle();
  ASSERT_EQ(service_.Get(id).state(), v1::JOB_STATE_BACKOFF);
  EXPECT_EQ(service_.registry.Cancel(id, std::nullopt)->state(), v1::JOB_STATE_CANCELLED);
  clock_.Advance(absl::Hours(1));
  service_.Settle();
  EXPECT_EQ(launcher_.started.size(), 1u);
}

TEST_F(ReconcilerTest, CancelWinsOverAFailureThatIsStopping) {
  const std::string id = Running(SpecFor(2));
  service_.Exit(id, 0, 70);
  service_.Settle();
  ASSERT_EQ(service_.Get(id).state(), v1::JOB_STATE_STOPPING);
  ASSERT_TRUE(service_.registry.Cancel(id, std::nullopt).ok());
  service_.Exit(id, 1, 31);
  service_.Done(id);
  service_.Settle();
  EXPECT_EQ(service_.Get(id).state(), v1::JOB_STATE_CANCELLED);
}

TEST_F(ReconcilerTest, ALaunchThatFailsIsTriedAgainThenFails) {
  launcher_.fail_start = absl::NotFoundError("no ithaca-worker at /x");
  v1::JobSpec spec = SpecFor(1);
  spec.mutable_restart()->set_max_restarts(1);
  const std::string id = service_.Create(spec).id();
  service_.Settle();
  EXPECT_EQ(service_.Get(id).state(), v1::JOB_STATE_BACKOFF);
  clock_.Advance(absl::Minutes(1));
  service_.Settle();
  const v1::Job job = service_.Get(id);
  EXPECT_EQ(job.state(), v1::JOB_STATE_FAILED);
  EXPECT_THAT(job.message(), HasSubstr("no ithaca-worker at /x"));
}

TEST_F(ReconcilerTest, ALaunchThatFailedOnceIsNotRepeatedWithinItsAttempt) {
  launcher_.fail_start = absl::UnavailableError("too many processes");
  const std::string id = service_.Create(SpecFor(1)).id();
  service_.reconciler.Tick();
  launcher_.fail_start = absl::OkStatus();
  service_.Settle();
  EXPECT_EQ(service_.Get(id).state(), v1::JOB_STATE_BACKOFF);
  EXPECT_TRUE(launcher_.started.empty()) << "a worker of an attempt that has ended would be an orphan";
  clock_.Advance(absl::Minutes(1));
  service_.Settle();
  ASSERT_EQ(launcher_.started.size(), 1u);
  EXPECT_EQ(launcher_.started[0].attempt, 2);
}

TEST_F(ReconcilerTest, AProcessThatCouldNotBeStoredIsNotStartedAgain) {
  const std::string id = service_.Create(SpecFor(1)).id();
  launcher_.after_start = [&] { store_.FailWith(absl::ResourceExhaustedError("full")); };
  service_.Settle();
  ASSERT_EQ(launcher_.started.size(), 1u);
  EXPECT_FALSE(service_.reconciler.last_error().ok());
  store_.FailWith(absl::OkStatus());
  service_.Settle();
  EXPECT_EQ(launcher_.started.size(), 1u);
  service_.Attach(id);
  service_.Succeed(id);
  EXPECT_EQ(service_.Get(id).state(), v1::JOB_STATE_SUCCEEDED);
}

TEST_F(ReconcilerTest, AWorkerThatDiesIsLostAndTriedAgain) {
  const std::string id = Running(SpecFor(2));
  launcher_.Die(1001);
  service_.Settle();
  const v1::Job job = service_.Get(id);
  EXPECT_EQ(job.state(), v1::JOB_STATE_BACKOFF);
  EXPECT_EQ(job.blame(), v1::BLAME_HARDWARE);
  EXPECT_THAT(job.message(), HasSubstr("was ended by the test"));
}

TEST_F(ReconcilerTest, AStartThatTakesTooLongIsStopped) {
  v1::JobSpec spec = SpecFor(2);
  spec.mutable_limits()->set_start_seconds(30);
  const std::string id = service_.Create(spec).id();
  service_.Settle();
  service_.Attach(id);
  clock_.Advance(absl::Seconds(30));
  service_.Settle();
  EXPECT_EQ(service_.Get(id).state(), v1::JOB_STATE_STOPPING);
  EXPECT_EQ(service_.Get(id).reason(), v1::JOB_REASON_START_TIMEOUT);
}

TEST_F(ReconcilerTest, ARunThatTakesTooLongSavesAndFails) {
  v1::JobSpec spec = SpecFor(2);
  spec.mutable_limits()->set_run_seconds(100);
  const std::string id = Running(spec);
  clock_.Advance(absl::Seconds(100));
  service_.Settle();
  ASSERT_TRUE(link_->Last(Kind::kStop).has_value());
  EXPECT_TRUE(link_->Last(Kind::kStop)->stop().save());
  service_.Exit(id, 0, 75);
  service_.Exit(id, 1, 75);
  service_.Done(id);
  service_.Settle();
  EXPECT_EQ(service_.Get(id).state(), v1::JOB_STATE_FAILED);
  EXPECT_EQ(service_.Get(id).reason(), v1::JOB_REASON_RUN_TIMEOUT);
}

TEST_F(ReconcilerTest, AnEndThatCannotBeStoredIsStoredLater) {
  const std::string id = Running(SpecFor(1));
  service_.Exit(id, 0, 0);
  service_.Done(id);
  store_.FailWith(absl::ResourceExhaustedError("full"));
  service_.Settle();
  EXPECT_EQ(service_.Get(id).state(), v1::JOB_STATE_RUNNING);
  EXPECT_FALSE(link_->Last(Kind::kFinish).has_value());
  store_.FailWith(absl::OkStatus());
  service_.Settle();
  EXPECT_EQ(service_.Get(id).state(), v1::JOB_STATE_SUCCEEDED);
}

TEST_F(ReconcilerTest, TheLastProgressStaysWithTheJob) {
  const std::string id = Running(SpecFor(1));
  ASSERT_TRUE(service_.Report(id, 0, R"({"event":"step","step":10,"loss":1.25,"seconds":1,"time":3})").ok());
  service_.Exit(id, 0, 0);
  service_.Done(id);
  service_.Settle();
  const v1::Job job = service_.Get(id);
  EXPECT_EQ(job.progress().step(), 10);
  EXPECT_EQ(job.progress().total_steps(), 10);
  EXPECT_EQ(job.progress().loss(), 1.25);
  EXPECT_EQ(job.ranks_size(), 1);
}

TEST_F(ReconcilerTest, EachTerminalStateIsWrittenOnce) {
  const std::string id = Running(SpecFor(1));
  service_.Exit(id, 0, 0);
  service_.Done(id);
  service_.Settle();
  const int commits = store_.commits();
  service_.Settle();
  EXPECT_EQ(store_.commits(), commits);
  int terminal = 0;
  const auto contents = store_.Load();
  for (const StateEvent& event : contents->events) terminal += IsTerminal(event.state) ? 1 : 0;
  EXPECT_EQ(terminal, 1);
}

}  // namespace
}  // namespace ithaca

// The coordinator ends at any moment and another takes up the same state, on each store.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/store/memory_store.h"
#include "server/store/sqlite_store.h"
#include "tests/server/core/service_fixture.h"

namespace ithaca {
namespace {

using Kind = v1::CoordinatorMessage;

class RecoveryTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { Restart(); }

  // Ends the coordinator without a word, as a crash does, and starts another.
  void Restart() {
    service_.reset();
    if (GetParam() == "sqlite") {
      store_.reset();
      auto opened = SqliteStore::Open(directory_.path() / "state.db");
      ASSERT_TRUE(opened.ok()) << opened.status();
      store_ = *std::move(opened);
    } else if (store_ == nullptr) {
      store_ = std::make_unique<MemoryStore>();
    }
    service_ = std::make_unique<Service>(*store_, directory_.path(), clock_, launcher_);
    clock_.Advance(absl::Seconds(1));
  }

  std::string Running() {
    const std::string id = service_->Create(SpecFor(2)).id();
    service_->Settle();
    service_->Attach(id);
    service_->AllReady(id);
    service_->Settle();
    EXPECT_EQ(service_->Get(id).state(), v1::JOB_STATE_RUNNING);
    return id;
  }

  TemporaryDirectory directory_;
  FakeClock clock_;
  FakeLauncher launcher_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Service> service_;
};

TEST_P(RecoveryTest, QueuedJobsKeepTheirOrderAndRequestIds) {
  const v1::Job a = service_->Create(SpecFor(2, "a"), "ra");
  const v1::Job b = service_->Create(SpecFor(2, "b"), "rb");
  Restart();
  EXPECT_EQ(service_->Create(SpecFor(2, "b"), "rb").id(), b.id());
  EXPECT_EQ(service_->Get(a.id()).SerializeAsString(), a.SerializeAsString());
  const v1::Job c = service_->Create(SpecFor(2, "c"));
  const auto page = service_->registry.List(0, "", "");
  ASSERT_EQ(page->jobs.size(), 3u);
  EXPECT_EQ(page->jobs[0].id(), c.id());
  EXPECT_EQ(page->jobs[2].id(), a.id());
}

TEST_P(RecoveryTest, ARunningJobGoesOnWhenItsWorkerComesBack) {
  const std::string id = Running();
  ASSERT_TRUE(service_->Report(id, 0, R"({"event":"step","step":4,"loss":2.0,"tokens":10,"seconds":1,"time":1})").ok());
  Restart();
  v1::Job job = service_->Get(id);
  EXPECT_EQ(job.state(), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(job.progress().step(), 4) << "rebuilt from the attempt's files";
  service_->Settle();
  EXPECT_EQ(service_->Get(id).state(), v1::JOB_STATE_RUNNING);
  const auto link = service_->Attach(id);
  EXPECT_GT(link->Last(Kind::kAck)->ack().ranks(0).event_offset(), 0) << "the worker learns what is stored";
  ASSERT_TRUE(service_->Report(id, 0, R"({"event":"step","step":5,"loss":1.5,"tokens":10,"seconds":1,"time":2})").ok());
  service_->Succeed(id);
  job = service_->Get(id);
  EXPECT_EQ(job.state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(job.attempt(), 1);
  EXPECT_EQ(launcher_.started.size(), 1u) << "not run twice";
  const auto metrics = service_->history.ReadMetrics(id, "", 100);
  ASSERT_EQ(metrics->responses.size(), 2u);
  EXPECT_EQ(metrics->responses[0].step().step(), 4);
  EXPECT_EQ(metrics->responses[1].step().step(), 5);
}

TEST_P(RecoveryTest, ARunningJobWhoseWorkerIsGoneIsTriedAgain) {
  const std::string id = Running();
  launcher_.Die(1001);
  Restart();
  service_->Settle();
  EXPECT_EQ(service_->Get(id).state(), v1::JOB_STATE_BACKOFF);
  clock_.Advance(absl::Seconds(10));
  service_->Settle();
  EXPECT_EQ(service_->Get(id).attempt(), 2);
}

TEST_P(RecoveryTest, AWorkerThatNeverComesBackIsLostAfterItsLease) {
  const std::string id = Running();
  Restart();
  clock_.Advance(SchedulerOptions().worker_lease - absl::Seconds(2));
  service_->Settle();
  EXPECT_EQ(service_->Get(id).state(), v1::JOB_STATE_RUNNING);
  clock_.Advance(absl::Seconds(2));
  service_->Settle();
  EXPECT_EQ(service_->Get(id).state(), v1::JOB_STATE_STOPPING);
  EXPECT_EQ(service_->Get(id).reason(), v1::JOB_REASON_WORKER_LOST);
  EXPECT_EQ(launcher_.terminated.size(), 1u);
  clock_.Advance(absl::Minutes(1));
  service_->Settle();
  EXPECT_EQ(launcher_.killed.size(), 1u);
  EXPECT_EQ(service_->Get(id).state(), v1::JOB_STATE_BACKOFF);
}

TEST_P(RecoveryTest, AnIntentWithoutALaunchIsLaunched) {
  const std::string id = service_->Create(SpecFor(2)).id();
  // What a crash between the intent row and the launch leaves behind.
  ASSERT_TRUE(service_->table
                  .Update(id,
                          [&](JobChange& change) {
                            change.job.job.set_state(v1::JOB_STATE_STARTING);
                            change.job.job.set_attempt(1);
                            AttemptRecord attempt{id, 1, "secret", {{"n1", v1::DEVICE_KIND_CPU, {0, 1}}}, {{}}};
                            attempt.launch_time = clock_.Now();
                            change.attempt = attempt;
                            return absl::OkStatus();
                          })
                  .ok());
  Restart();
  service_->Settle();
  ASSERT_EQ(launcher_.started.size(), 1u);
  EXPECT_EQ(launcher_.started[0].token, "secret");
  EXPECT_EQ(launcher_.started[0].attempt, 1);
  service_->Attach(id);
  service_->Succeed(id);
  EXPECT_EQ(service_->Get(id).state(), v1::JOB_STATE_SUCCEEDED);
}

TEST_P(RecoveryTest, ALaunchWhoseResultWasNotStoredIsFoundNotRepeated) {
  const std::string id = service_->Create(SpecFor(2)).id();
  service_->Settle();
  ASSERT_EQ(launcher_.started.size(), 1u);
  // What a crash between the launch and the result row leaves behind.
  ASSERT_TRUE(service_->table
                  .Update(id,
                          [&](JobChange& change) {
                            change.attempt->workers[0] = {};
                            return absl::OkStatus();
                          })
                  .ok());
  Restart();
  service_->Settle();
  EXPECT_EQ(launcher_.started.size(), 1u);
  service_->Attach(id);
  service_->Succeed(id);
  EXPECT_EQ(service_->Get(id).state(), v1::JOB_STATE_SUCCEEDED);
}

TEST_P(RecoveryTest, ACancelInFlightIsCarriedThrough) {
  const std::string id = Running();
  ASSERT_TRUE(service_->registry.Cancel(id, absl::Seconds(10)).ok());
  Restart();
  const auto link = service_->Attach(id);
  service_->Settle();
  ASSERT_TRUE(link->Last(Kind::kStop).has_value());
  clock_.Advance(absl::Seconds(16));
  service_->Settle();
  EXPECT_EQ(service_->Get(id).state(), v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(launcher_.killed.size(), 1u) << "the deadline outlived the restart";
}

TEST_P(RecoveryTest, ABackoffOutlivesTheRestart) {
  const std::string id = Running();
  service_->Exit(id, 0, 70);
  service_->Exit(id, 1, 31);
  service_->Done(id);
  service_->Settle();
  ASSERT_EQ(service_->Get(id).state(), v1::JOB_STATE_BACKOFF);
  const v1::Job before = service_->Get(id);
  Restart();
  EXPECT_EQ(service_->Get(id).SerializeAsString(), before.SerializeAsString());
  clock_.Advance(absl::Seconds(10));
  service_->Settle();
  EXPECT_EQ(service_->Get(id).attempt(), 2);
}

TEST_P(RecoveryTest, ACheckpointThatWasOnlyInTheFilesIsTakenUp) {
  const std::string id = Running();
  const std::string json = R"({"event":"checkpoint","step":5,"path":"/c/5","time":9})";
  const auto positions = service_->files.Positions({id, 1});
  ASSERT_TRUE(service_->files.AppendEvent({id, 1}, EventFile::kEvents, {0, positions->at(0).event_offset, json}).ok());
  Restart();
  service_->Attach(id);
  ASSERT_TRUE(service_->Report(id, 0, R"({"event":"warning","message":"x"})").ok());
  EXPECT_EQ(service_->Get(id).checkpoints_size(), 1);
}

TEST_P(RecoveryTest, AnEndedJobLooksTheSame) {
  const std::string id = Running();
  ASSERT_TRUE(service_->Report(id, 0, R"({"event":"checkpoint","step":5,"path":"/c/5","time":9})").ok());
  service_->Succeed(id);
  const v1::Job before = service_->Get(id);
  const auto events = service_->registry.ListEvents(id, 0, "", absl::InfinitePast());
  Restart();
  EXPECT_EQ(service_->Get(id).SerializeAsString(), before.SerializeAsString());
  const auto after = service_->registry.ListEvents(id, 0, "", absl::InfinitePast());
  ASSERT_EQ(after->events.size(), events->events.size());
  for (size_t i = 0; i < after->events.size(); ++i) EXPECT_EQ(after->events[i].id(), events->events[i].id());
}

TEST_P(RecoveryTest, ADeletedJobStaysAway) {
  const std::string id = service_->Create(SpecFor(2), "r1").id();
  ASSERT_TRUE(service_->registry.Cancel(id, std::nullopt).ok());
  ASSERT_TRUE(service_->registry.Delete(id, "").ok());
  Restart();
  EXPECT_EQ(service_->registry.Get(id).status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(service_->table.FindRequest("", "r1").has_value());
}

TEST_P(RecoveryTest, WhatADeletionLeftBehindIsRemovedAndNothingElse) {
  const std::string kept = Running();
  const auto jobs = directory_.path() / "jobs";
  const std::string gone = "j0k2v9c3m1x7tq4";
  std::filesystem::create_directories(jobs / gone / "attempts/1");
  std::filesystem::create_directories(jobs / "j0k2v9c3m1x7tq5/attempts/1");
  std::filesystem::create_directories(jobs / "j0k2v9c3m1x7tq5/checkpoints/step-00000001");
  std::filesystem::create_directories(jobs / "of-somebody-else/attempts/1");
  Restart();
  EXPECT_FALSE(std::filesystem::exists(jobs / gone));
  EXPECT_FALSE(std::filesystem::exists(jobs / "j0k2v9c3m1x7tq5/attempts"));
  EXPECT_TRUE(std::filesystem::exists(jobs / "j0k2v9c3m1x7tq5/checkpoints/step-00000001"));
  EXPECT_TRUE(std::filesystem::exists(jobs / "of-somebody-else/attempts/1"));
  EXPECT_TRUE(std::filesystem::exists(jobs / kept / "attempts/1/run.json"));
}

TEST_P(RecoveryTest, AStoreThatKnowsNoJobRemovesNoFiles) {
  const auto attempts = directory_.path() / "jobs/j0k2v9c3m1x7tq4/attempts";
  std::filesystem::create_directories(attempts);
  Restart();
  EXPECT_TRUE(std::filesystem::exists(attempts));
}

TEST_P(RecoveryTest, ARankThatSaysNothingAfterARestartHangs) {
  const std::string id = Running();
  Restart();
  service_->Attach(id);
  clock_.Advance(SchedulerOptions().hang_timeout - absl::Seconds(5));
  service_->Settle();
  EXPECT_EQ(service_->Get(id).state(), v1::JOB_STATE_RUNNING);
  clock_.Advance(absl::Seconds(5));
  service_->Settle();
  EXPECT_EQ(service_->Get(id).state(), v1::JOB_STATE_STOPPING);
  EXPECT_EQ(service_->Get(id).reason(), v1::JOB_REASON_HUNG);
}

INSTANTIATE_TEST_SUITE_P(Stores, RecoveryTest, testing::Values("memory", "sqlite"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace ithaca

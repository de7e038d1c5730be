#include "server/core/worker_hub.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "proto/errors.h"
#include "server/store/memory_store.h"
#include "tests/server/core/hooked_files.h"
#include "tests/server/core/service_fixture.h"

namespace ithaca {
namespace {

using Kind = v1::CoordinatorMessage;

class WorkerHubTest : public testing::Test {
 protected:
  void SetUp() override {
    job_id_ = service_.Create(SpecFor(2)).id();
    service_.Settle();
  }

  TemporaryDirectory directory_;
  MemoryStore store_;
  FakeClock clock_;
  FakeLauncher launcher_;
  Service service_{store_, directory_.path(), clock_, launcher_};
  std::string job_id_;
};

TEST_F(WorkerHubTest, HelloIsAnsweredWithAnAssignmentAndAnAck) {
  const auto link = service_.Attach(job_id_);
  ASSERT_EQ(link->messages.size(), 2u);
  const v1::Assignment& assignment = link->messages[0].assignment();
  EXPECT_EQ(assignment.world_size(), 2);
  ASSERT_EQ(assignment.ranks_size(), 2);
  EXPECT_EQ(assignment.ranks(1).rank(), 1);
  EXPECT_EQ(assignment.ranks(1).local_rank(), 1);
  EXPECT_EQ(assignment.ranks(1).devices_size(), 0);
  EXPECT_EQ(assignment.start_seconds(), 600);
  EXPECT_EQ(nlohmann::json::parse(assignment.run_json())["data"]["sequence_length"], 128);
  EXPECT_TRUE(link->messages[1].has_ack());
  EXPECT_EQ(service_.Get(job_id_).reason(), v1::JOB_REASON_LOADING);
}

TEST_F(WorkerHubTest, AWrongTokenIsRefused) {
  v1::Hello hello = service_.HelloOf(job_id_);
  hello.set_token(std::string(64, 'a'));
  const absl::Status status = service_.hub.Attach(hello, std::make_shared<FakeLink>()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(ReasonOf(status), "WRONG_TOKEN");
}

TEST_F(WorkerHubTest, OtherAttemptsAndJobsAreFenced) {
  for (const int attempt : {0, 2, -1}) {
    v1::Hello hello = service_.HelloOf(job_id_);
    hello.set_attempt(attempt);
    EXPECT_EQ(ReasonOf(service_.hub.Attach(hello, std::make_shared<FakeLink>()).status()), "ATTEMPT_FENCED");
  }
  v1::Hello hello = service_.HelloOf(job_id_);
  hello.set_job_id("j-of-nobody");
  EXPECT_EQ(ReasonOf(service_.hub.Attach(hello, std::make_shared<FakeLink>()).status()), "ATTEMPT_FENCED");
}

TEST_F(WorkerHubTest, ASecondWorkerForTheSamePlaceIsFenced) {
  service_.Attach(job_id_);
  v1::Hello hello = service_.HelloOf(job_id_);
  hello.set_pid(hello.pid() + 1);
  EXPECT_EQ(ReasonOf(service_.hub.Attach(hello, std::make_shared<FakeLink>()).status()), "ATTEMPT_FENCED");
}

TEST_F(WorkerHubTest, AnEndedAttemptIsFencedEvenWithItsOldToken) {
  const v1::Hello hello = service_.HelloOf(job_id_);
  service_.Attach(job_id_);
  service_.Succeed(job_id_);
  ASSERT_EQ(service_.Get(job_id_).state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(ReasonOf(service_.hub.Attach(hello, std::make_shared<FakeLink>()).status()), "ATTEMPT_FENCED");
  EXPECT_EQ(ReasonOf(service_.Report(job_id_, 0, "{}")), "ATTEMPT_FENCED");
}

TEST_F(WorkerHubTest, AnOlderStreamOfTheSameWorkerSaysNothingMore) {
  service_.Attach(job_id_);
  const WorkerHub::Session old = service_.session(job_id_);
  service_.Attach(job_id_);
  v1::WorkerMessage done;
  done.mutable_done();
  EXPECT_EQ(service_.hub.Handle(old, done).code(), absl::StatusCode::kAborted);
  service_.hub.Detach(old);  // and its end does not detach the newer one
  service_.reconciler.Tick();
  EXPECT_TRUE(service_.table.View().jobs[0].attempt.attached);
}

TEST_F(WorkerHubTest, WhatArrivesTwiceCountsOnce) {
  const auto link = service_.Attach(job_id_);
  v1::WorkerMessage message;
  const std::string json = R"({"event":"step","step":1,"tokens":100,"loss":3.5,"seconds":1,"time":2})";
  v1::EngineEvent& event = *message.mutable_batch()->add_events();
  event.set_json(json);
  v1::LogChunk& log = *message.mutable_batch()->add_logs();
  log.set_data("hello\n");
  ASSERT_TRUE(service_.Say(job_id_, message).ok());
  ASSERT_TRUE(service_.Say(job_id_, message).ok());
  const std::vector<LiveJob> live = service_.table.Live(absl::ZeroDuration());
  ASSERT_EQ(live.size(), 1u);
  EXPECT_EQ(live[0].tokens_total, 100);
  EXPECT_EQ(live[0].steps_total, 1);
  EXPECT_EQ(*service_.files.ReadLog({job_id_, 1}, 0, 0, 100), "hello\n");
  const auto ack = link->Last(Kind::kAck);
  ASSERT_TRUE(ack.has_value());
  ASSERT_EQ(ack->ack().ranks_size(), 1);
  EXPECT_EQ(ack->ack().ranks(0).event_offset(), static_cast<int64_t>(json.size()) + 1);
  EXPECT_EQ(ack->ack().ranks(0).log_offset(), 6);
}

TEST_F(WorkerHubTest, AWorkerSpeaksForItsOwnRanksOnly) {
  service_.Attach(job_id_);
  EXPECT_EQ(service_.Report(job_id_, 2, R"({"event":"ready"})").code(), absl::StatusCode::kInvalidArgument);
  v1::WorkerMessage message;
  message.mutable_engine_exit()->set_rank(9);
  EXPECT_EQ(service_.Say(job_id_, message).code(), absl::StatusCode::kInvalidArgument);
  message.mutable_hello();
  EXPECT_EQ(service_.Say(job_id_, message).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(service_.Say(job_id_, {}).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(WorkerHubTest, HeartbeatsShowInTheJob) {
  service_.Attach(job_id_);
  v1::WorkerMessage message;
  v1::Heartbeat& heartbeat = *message.mutable_batch()->add_heartbeats();
  heartbeat.set_rank(1);
  heartbeat.set_phase("forward");
  heartbeat.mutable_memory()->set_allocated_bytes(7);
  ASSERT_TRUE(service_.Say(job_id_, message).ok());
  const v1::Job job = service_.Get(job_id_);
  ASSERT_EQ(job.ranks_size(), 1);
  EXPECT_EQ(job.ranks(0).rank(), 1);
  EXPECT_EQ(job.ranks(0).phase(), "forward");
  EXPECT_EQ(job.ranks(0).memory_bytes(), 7);
}

TEST_F(WorkerHubTest, CheckpointsAreStoredAndTheNewestKept) {
  service_.Attach(job_id_);
  for (const char* json : {R"({"event":"checkpoint","step":10,"path":"/c/10","bytes":5})",
                           R"({"event":"checkpoint","step":20,"path":"/c/20","bytes":5})",
                           R"({"event":"checkpoint","step":30,"path":"/c/30","bytes":5})",
                           R"({"event":"checkpoint","step":30,"path":"/c/export","bytes":5,"export":true})"}) {
    ASSERT_TRUE(service_.Report(job_id_, 0, json).ok());
  }
  const v1::Job job = service_.Get(job_id_);
  ASSERT_EQ(job.checkpoints_size(), 2);
  EXPECT_EQ(job.checkpoints(0).step(), 20);
  EXPECT_EQ(job.checkpoints(1).path(), "/c/30");
  EXPECT_EQ(job.export_path(), "/c/export");
  EXPECT_EQ(store_.Load()->checkpoints.size(), 4u);
  EXPECT_EQ(service_.registry.ListCheckpoints(job_id_, 1, "")->checkpoints.size(), 1u);
}

TEST_F(WorkerHubTest, ACheckpointThatCouldNotBeStoredIsStoredLater) {
  service_.Attach(job_id_);
  store_.FailWith(absl::ResourceExhaustedError("full"));
  EXPECT_EQ(service_.Report(job_id_, 0, R"({"event":"checkpoint","step":10,"path":"/c/10"})").code(),
            absl::StatusCode::kResourceExhausted);
  store_.FailWith(absl::OkStatus());
  ASSERT_TRUE(service_.Report(job_id_, 0, R"({"event":"warning","message":"x"})").ok());
  EXPECT_EQ(service_.Get(job_id_).checkpoints_size(), 1);
}

class WorkerHubWindowTest : public WorkerHubTest {
 protected:
  // One step, as the first record of rank 0.
  static v1::WorkerMessage FirstStep() {
    v1::WorkerMessage message;
    message.mutable_batch()->add_events()->set_json(R"({"event":"step","step":1,"loss":3.5,"seconds":1,"time":2})");
    return message;
  }

  HookedFiles files_{service_.files};
  WorkerHub hub_{service_.table, files_, clock_};
};

TEST_F(WorkerHubWindowTest, WhatWasStoredCountsThoughTheWorkerHasOpenedAnotherStream) {
  const auto old_link = std::make_shared<FakeLink>();
  const auto old = hub_.Attach(service_.HelloOf(job_id_), old_link);
  ASSERT_TRUE(old.ok()) << old.status();
  const auto link = std::make_shared<FakeLink>();
  files_.after_append = [&] { ASSERT_TRUE(hub_.Attach(service_.HelloOf(job_id_), link).ok()); };
  EXPECT_EQ(hub_.Handle(*old, FirstStep()).code(), absl::StatusCode::kAborted) << "the old stream ends";
  ASSERT_TRUE(link->Last(Kind::kAck).has_value());
  EXPECT_GT(link->Last(Kind::kAck)->ack().ranks(0).event_offset(), 0) << "so the worker does not send it again";
  EXPECT_EQ(service_.Get(job_id_).progress().step(), 1);
  EXPECT_EQ(old_link->messages.size(), 2u) << "the assignment and the first ack";
}

TEST_F(WorkerHubWindowTest, FilesOfAnAttemptThatHasEndedMeanwhileAreClosed) {
  service_.Attach(job_id_);
  service_.AllReady(job_id_);
  const auto positions = service_.files.Positions({job_id_, 1});
  v1::WorkerMessage message = FirstStep();
  message.mutable_batch()->mutable_events(0)->set_offset(positions->at(0).event_offset);
  files_.after_append = [&] {
    service_.Exit(job_id_, 0, 0);
    service_.Exit(job_id_, 1, 0);
    service_.Done(job_id_);
    service_.Settle();
  };
  EXPECT_EQ(ReasonOf(hub_.Handle(service_.session(job_id_), message)), "ATTEMPT_FENCED");
  EXPECT_EQ(service_.Get(job_id_).state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(files_.closed, 1);
}

TEST_F(WorkerHubTest, DrainTellsEveryWorkerToKeepItsEngines) {
  const auto link = service_.Attach(job_id_);
  service_.hub.DetachAll();
  EXPECT_TRUE(link->messages.back().has_detach());
}

TEST(WorkerHubOnTwoHosts, TheRendezvousGoesToTheOthers) {
  TemporaryDirectory directory;
  MemoryStore store;
  FakeClock clock;
  DiskAttemptFiles files(directory.path());
  const NodePlacement n1{"n1", v1::DEVICE_KIND_CPU, {0}};
  const NodePlacement n2{"n2", v1::DEVICE_KIND_CPU, {0}};
  JobTable table(store, files, clock, {{"n1", {}}, {"n2", {}}});
  JobRecord record;
  record.job.set_id("j1");
  record.job.set_state(v1::JOB_STATE_QUEUED);
  ASSERT_TRUE(table.Insert(record, std::nullopt).ok());
  ASSERT_TRUE(table
                  .Update("j1",
                          [&](JobChange& change) {
                            change.job.job.set_state(v1::JOB_STATE_STARTING);
                            change.job.job.set_attempt(1);
                            change.attempt = AttemptRecord{"j1", 1, "secret", {n1, n2}, {{}, {}}};
                            return absl::OkStatus();
                          })
                  .ok());
  std::ofstream(*files.MakeDirectory({"j1", 1}) / "run.json") << "{}";
  WorkerHub hub(table, files, clock);
  std::vector<std::shared_ptr<FakeLink>> links;
  std::vector<WorkerHub::Session> sessions;
  for (const int pid : {11, 22}) {
    v1::Hello hello;
    hello.set_job_id("j1");
    hello.set_attempt(1);
    hello.set_token("secret");
    hello.set_pid(pid);
    links.push_back(std::make_shared<FakeLink>());
    const auto session = hub.Attach(hello, links.back());
    ASSERT_TRUE(session.ok()) << session.status();
    sessions.push_back(*session);
  }
  EXPECT_EQ(links[0]->messages[0].assignment().ranks(0).rank(), 0);
  EXPECT_EQ(links[1]->messages[0].assignment().ranks(0).rank(), 1);
  v1::WorkerMessage listening;
  listening.mutable_listening()->set_host("n1");
  listening.mutable_listening()->set_port(4242);
  ASSERT_TRUE(hub.Handle(sessions[0], listening).ok());
  EXPECT_FALSE(links[0]->Last(Kind::kRendezvous).has_value());
  ASSERT_TRUE(links[1]->Last(Kind::kRendezvous).has_value());
  EXPECT_EQ(links[1]->Last(Kind::kRendezvous)->rendezvous().port(), 4242);
}

}  // namespace
}  // namespace ithaca

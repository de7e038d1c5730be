#include "server/store/sqlite_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/core/service_fixture.h"

namespace ithaca {
namespace {

using testing::HasSubstr;

class SqliteStoreTest : public testing::Test {
 protected:
  std::unique_ptr<SqliteStore> Open() {
    auto store = SqliteStore::Open(path_);
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }

  TemporaryDirectory directory_;
  std::filesystem::path path_ = directory_.path() / "state.db";
};

JobRecord Job(int number) {
  JobRecord record;
  record.job.set_id(absl::StrCat("j", number));
  record.job.set_name("name");
  record.job.set_state(v1::JOB_STATE_QUEUED);
  record.sequence = number;
  return record;
}

TEST_F(SqliteStoreTest, EveryFieldComesBack) {
  WriteBatch batch;
  JobRecord job = Job(1);
  job.demand = {v1::DEVICE_KIND_CUDA, 2, 3};
  job.not_before = absl::FromUnixMicros(123456789);
  job.stop_grace = absl::Seconds(7);
  job.run_time = absl::Milliseconds(1500);
  *job.job.mutable_spec() = SpecFor(2);
  AttemptRecord attempt{"j1", 1, "secret"};
  attempt.placement = {{"n1", v1::DEVICE_KIND_CUDA, {0, 2}}, {"n2", v1::DEVICE_KIND_CUDA, {1}}};
  attempt.workers = {{"n1", 42, 18446744073709551615u, ""}, {"", 0, 0, "pod-7"}};
  attempt.launch_time = absl::FromUnixMicros(5);
  attempt.cause = {v1::JOB_REASON_KILLED, v1::BLAME_SYSTEM, "it's \"gone\" — really"};
  batch.jobs = {job};
  batch.attempts = {attempt};
  batch.events = {{"j1", 1, absl::FromUnixMicros(9), 1, v1::JOB_STATE_BACKOFF, attempt.cause}};
  CheckpointRecord checkpoint{"j1", {}, true};
  checkpoint.checkpoint.set_step(10);
  checkpoint.checkpoint.set_path("/c");
  checkpoint.checkpoint.set_size_bytes(int64_t{5} << 40);
  checkpoint.checkpoint.mutable_create_time()->set_seconds(3);
  checkpoint.checkpoint.set_attempt(1);
  batch.checkpoints = {checkpoint};
  batch.request_keys = {{"me", "r1", "j1"}};
  ASSERT_TRUE(Open()->Commit(batch).ok());

  const auto contents = Open()->Load();
  ASSERT_TRUE(contents.ok()) << contents.status();
  ASSERT_EQ(contents->jobs.size(), 1u);
  const JobRecord& read = contents->jobs[0];
  EXPECT_EQ(read.job.SerializeAsString(), job.job.SerializeAsString());
  EXPECT_EQ(read.sequence, 1);
  EXPECT_EQ(read.demand.device, v1::DEVICE_KIND_CUDA);
  EXPECT_EQ(read.demand.slots(), 6);
  EXPECT_EQ(read.not_before, job.not_before);
  EXPECT_EQ(read.stop_deadline, absl::InfiniteFuture());
  EXPECT_EQ(read.stop_grace, job.stop_grace);
  EXPECT_EQ(read.run_time, job.run_time);
  ASSERT_EQ(contents->attempts.size(), 1u);
  EXPECT_EQ(contents->attempts[0].token, "secret");
  EXPECT_EQ(contents->attempts[0].workers, attempt.workers);
  EXPECT_EQ(contents->attempts[0].placement[0].slots, (std::vector<int>{0, 2}));
  EXPECT_EQ(contents->attempts[0].launch_time, attempt.launch_time);
  EXPECT_FALSE(contents->attempts[0].ended());
  EXPECT_EQ(contents->attempts[0].cause.message, attempt.cause.message);
  ASSERT_EQ(contents->events.size(), 1u);
  EXPECT_EQ(contents->events[0].state, v1::JOB_STATE_BACKOFF);
  ASSERT_EQ(contents->checkpoints.size(), 1u);
  EXPECT_EQ(contents->checkpoints[0].checkpoint.SerializeAsString(), checkpoint.checkpoint.SerializeAsString());
  EXPECT_TRUE(contents->checkpoints[0].is_export);
  ASSERT_EQ(contents->request_keys.size(), 1u);
  EXPECT_EQ(contents->request_keys[0].owner, "me");
}

TEST_F(SqliteStoreTest, ABatchIsWrittenWholeOrNotAtAll) {
  const auto store = Open();
  WriteBatch first;
  first.jobs = {Job(1)};
  first.request_keys = {{"", "r1", "j1"}};
  ASSERT_TRUE(store->Commit(first).ok());
  WriteBatch second;
  second.jobs = {Job(2)};
  second.request_keys = {{"", "r1", "j2"}};
  EXPECT_EQ(store->Commit(second).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(store->Load()->jobs.size(), 1u);
  second.request_keys[0].request_id = "r2";
  EXPECT_TRUE(store->Commit(second).ok());
}

TEST_F(SqliteStoreTest, ATokenGoesWithItsAttempt) {
  const auto store = Open();
  WriteBatch batch;
  batch.jobs = {Job(1)};
  batch.attempts = {AttemptRecord{"j1", 1, "secret"}};
  ASSERT_TRUE(store->Commit(batch).ok());
  EXPECT_EQ(store->Load()->attempts[0].token, "secret");
  batch.attempts[0].token.clear();
  ASSERT_TRUE(store->Commit(batch).ok());
  EXPECT_EQ(store->Load()->attempts[0].token, "");
}

TEST_F(SqliteStoreTest, DeletingAJobDeletesAllItsRows) {
  const auto store = Open();
  WriteBatch batch;
  batch.jobs = {Job(1), Job(2)};
  batch.attempts = {AttemptRecord{"j1", 1, "secret"}, AttemptRecord{"j2", 1, "other"}};
  batch.events = {{"j1", 1, absl::UnixEpoch(), 0, v1::JOB_STATE_QUEUED, {}}};
  batch.checkpoints = {CheckpointRecord{"j1", {}, false}};
  batch.request_keys = {{"", "r1", "j1"}};
  ASSERT_TRUE(store->Commit(batch).ok());
  WriteBatch gone;
  gone.deleted_jobs = {"j1"};
  ASSERT_TRUE(store->Commit(gone).ok());
  const auto contents = store->Load();
  EXPECT_EQ(contents->jobs.size(), 1u);
  EXPECT_EQ(contents->attempts.size(), 1u);
  EXPECT_TRUE(contents->events.empty());
  EXPECT_TRUE(contents->checkpoints.empty());
  EXPECT_TRUE(contents->request_keys.empty());
}

TEST_F(SqliteStoreTest, CommitsThatWaitTogetherShareATransaction) {
  const auto store = Open();
  constexpr int kThreads = 16;
  constexpr int kEach = 20;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < kEach; ++i) {
        WriteBatch batch;
        batch.jobs = {Job(thread * kEach + i)};
        EXPECT_TRUE(store->Commit(batch).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(store->Load()->jobs.size(), static_cast<size_t>(kThreads * kEach));
  EXPECT_LT(store->transactions(), kThreads * kEach);
}

TEST_F(SqliteStoreTest, ADatabaseOfANewerVersionIsRefused) {
  Open();
  auto connection = OpenSqlite(path_);
  ASSERT_TRUE(Execute(connection->get(), "PRAGMA user_version=99").ok());
  connection->reset();
  const absl::Status status = SqliteStore::Open(path_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("newer"));
}

TEST_F(SqliteStoreTest, AFileThatIsNoDatabaseIsRefused) {
  std::ofstream(path_) << std::string(8192, 'x');
  EXPECT_EQ(SqliteStore::Open(path_).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(SqliteStoreTest, APathThatCannotBeOpenedIsNamed) {
  const absl::Status status = SqliteStore::Open(directory_.path() / "none" / "state.db").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("none/state.db"));
}

TEST_F(SqliteStoreTest, ItWritesAheadAndSyncsEveryCommit) {
  Open();
  auto connection = OpenSqlite(path_);
  ASSERT_TRUE(connection.ok());
  Statement journal(connection->get(), "PRAGMA journal_mode");
  ASSERT_TRUE(*journal.Step());
  EXPECT_EQ(journal.Text(0), "wal");
  Statement synchronous(connection->get(), "PRAGMA synchronous");
  ASSERT_TRUE(*synchronous.Step());
  EXPECT_EQ(synchronous.Integer(0), 2);  // FULL
}

}  // namespace
}  // namespace ithaca

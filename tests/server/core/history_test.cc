#include "server/core/history.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "server/store/memory_store.h"
#include "tests/server/core/service_fixture.h"

namespace ithaca {
namespace {

using testing::ElementsAre;

class HistoryTest : public testing::Test {
 protected:
  void SetUp() override {
    job_id_ = service_.Create(SpecFor(1)).id();
    service_.Settle();
    service_.Attach(job_id_);
  }

  void Step(int step) {
    const std::string json = absl::StrCat(R"({"event":"step","seconds":1,"time":1,"loss":2,"step":)", step, "}");
    ASSERT_TRUE(service_.Report(job_id_, 0, json).ok());
  }

  void Log(const std::string& data) {
    const auto positions = service_.files.Positions(service_.session(job_id_).attempt);
    v1::WorkerMessage message;
    v1::LogChunk& log = *message.mutable_batch()->add_logs();
    log.set_offset(positions->contains(0) ? positions->at(0).log_offset : 0);
    log.set_data(data);
    ASSERT_TRUE(service_.Say(job_id_, message).ok());
  }

  // Ends the attempt by a failure and starts the next.
  void NextAttempt() {
    service_.Exit(job_id_, 0, 70);
    service_.Done(job_id_);
    service_.Settle();
    clock_.Advance(absl::Minutes(1));
    service_.Settle();
    service_.Attach(job_id_);
  }

  // "attempt:step" of all metrics from `cursor` on, which is left at the end.
  std::vector<std::string> Metrics(std::string& cursor, bool& may_grow, int piece_size = 2) {
    std::vector<std::string> seen;
    while (true) {
      const auto piece = service_.history.ReadMetrics(job_id_, cursor, piece_size);
      EXPECT_TRUE(piece.ok()) << piece.status();
      if (!piece.ok()) return seen;
      for (const auto& response : piece->responses) {
        seen.push_back(absl::StrCat(response.attempt(), ":", response.step().step()));
      }
      cursor = piece->cursor;
      may_grow = piece->may_grow;
      if (piece->at_end) return seen;
    }
  }

  TemporaryDirectory directory_;
  MemoryStore store_;
  FakeClock clock_;
  FakeLauncher launcher_;
  Service service_{store_, directory_.path(), clock_, launcher_};
  std::string job_id_;
};

TEST_F(HistoryTest, MetricsResumeFromTheCursor) {
  for (int step = 1; step <= 5; ++step) Step(step);
  std::string cursor;
  bool may_grow = false;
  EXPECT_THAT(Metrics(cursor, may_grow), ElementsAre("1:1", "1:2", "1:3", "1:4", "1:5"));
  EXPECT_TRUE(may_grow);
  EXPECT_THAT(Metrics(cursor, may_grow), ElementsAre());
  Step(6);
  EXPECT_THAT(Metrics(cursor, may_grow), ElementsAre("1:6"));
  service_.Succeed(job_id_);
  EXPECT_THAT(Metrics(cursor, may_grow), ElementsAre());
  EXPECT_FALSE(may_grow);
}

TEST_F(HistoryTest, EachResponsesCursorGoesOnRightAfterIt) {
  for (int step = 1; step <= 3; ++step) Step(step);
  const auto piece = service_.history.ReadMetrics(job_id_, "", 10);
  std::string cursor = piece->responses[0].cursor();
  bool may_grow = false;
  EXPECT_THAT(Metrics(cursor, may_grow), ElementsAre("1:2", "1:3"));
}

TEST_F(HistoryTest, OfAStepDoneTwiceTheNewestAttemptCounts) {
  for (int step = 1; step <= 4; ++step) Step(step);
  NextAttempt();
  for (int step = 3; step <= 5; ++step) Step(step);
  std::string cursor;
  bool may_grow = false;
  EXPECT_THAT(Metrics(cursor, may_grow), ElementsAre("1:1", "1:2", "2:3", "2:4", "2:5"));
}

TEST_F(HistoryTest, MalformedCursorsAreRefused) {
  for (const char* cursor : {"x", "1", "1.-5", "0.0", "1.2.3", "1.x", "2.0", "2147483647.0", "2147483648.0"}) {
    EXPECT_EQ(service_.history.ReadMetrics(job_id_, cursor, 10).status().code(), absl::StatusCode::kInvalidArgument)
        << cursor;
  }
  v1::StreamLogsRequest request;
  request.set_job_id(job_id_);
  for (const char* cursor : {"x", "1", "1;x", "1;0:-1", "-1;", "9;", "2147483647;"}) {
    EXPECT_EQ(service_.history.ReadLogs(request, cursor).status().code(), absl::StatusCode::kInvalidArgument) << cursor;
  }
}

TEST_F(HistoryTest, LogsComeInWholeLinesAndResume) {
  Log("one\ntwo\nthr");
  v1::StreamLogsRequest request;
  request.set_job_id(job_id_);
  request.set_follow(true);
  auto piece = service_.history.ReadLogs(request, "");
  ASSERT_EQ(piece->responses.size(), 1u);
  EXPECT_EQ(piece->responses[0].data(), "one\ntwo\n");
  EXPECT_EQ(piece->responses[0].offset(), 0);
  Log("ee\n");
  piece = service_.history.ReadLogs(request, piece->responses[0].cursor());
  ASSERT_EQ(piece->responses.size(), 1u);
  EXPECT_EQ(piece->responses[0].data(), "three\n");
  EXPECT_EQ(piece->responses[0].offset(), 8);
  piece = service_.history.ReadLogs(request, piece->cursor);
  EXPECT_TRUE(piece->responses.empty());
  EXPECT_TRUE(piece->at_end);
  EXPECT_TRUE(piece->may_grow);
}

TEST_F(HistoryTest, FollowedLogsGoOnWithTheNextAttemptAndEndWithTheJob) {
  Log("first\n");
  v1::StreamLogsRequest request;
  request.set_job_id(job_id_);
  request.set_follow(true);
  std::string cursor = service_.history.ReadLogs(request, "")->cursor;
  NextAttempt();
  Log("second");
  service_.Succeed(job_id_);
  std::string text;
  for (int i = 0; i < 10; ++i) {
    const auto piece = service_.history.ReadLogs(request, cursor);
    ASSERT_TRUE(piece.ok()) << piece.status();
    for (const auto& response : piece->responses) text += absl::StrCat(response.attempt(), ":", response.data());
    cursor = piece->cursor;
    if (!piece->at_end) continue;
    EXPECT_FALSE(piece->may_grow);
    EXPECT_EQ(text, "2:second");
    return;
  }
  FAIL() << "the stream has no end";
}

TEST_F(HistoryTest, WithoutFollowOnlyTheNewestAttemptIsRead) {
  Log("first\n");
  NextAttempt();
  Log("second\n");
  v1::StreamLogsRequest request;
  request.set_job_id(job_id_);
  EXPECT_EQ(service_.history.ReadLogs(request, "")->responses[0].data(), "second\n");
  request.set_attempt(1);
  const auto piece = service_.history.ReadLogs(request, "");
  EXPECT_EQ(piece->responses[0].data(), "first\n");
  EXPECT_FALSE(service_.history.ReadLogs(request, piece->cursor)->may_grow);
  request.set_attempt(3);
  EXPECT_EQ(service_.history.ReadLogs(request, "").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace ithaca

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/core/scheduler.h"

namespace ithaca {
namespace {

using testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'000'000);

struct EndRow {
  std::string name;
  v1::JobReason reason;
  v1::Blame blame;
  std::vector<int> failed_seconds_ago;
  std::string state;
  std::string cause;
  int backoff_seconds = 0;
};

class DecideEndTable : public testing::TestWithParam<EndRow> {};

TEST_P(DecideEndTable, Decides) {
  const EndRow& row = GetParam();
  JobView job;
  job.restart.set_max_restarts(2);
  job.restart.set_window_seconds(1000);
  job.restart.set_backoff_seconds(10);
  for (const int ago : row.failed_seconds_ago) job.failures.push_back(kNow - absl::Seconds(ago));
  const EndDecision decision = DecideEnd(job, {row.reason, row.blame, "it broke"}, kNow, {});
  EXPECT_EQ(StateName(decision.state), row.state);
  EXPECT_EQ(ReasonName(decision.cause.reason), row.cause);
  EXPECT_THAT(decision.cause.message, HasSubstr("it broke"));
  if (row.state == "BACKOFF") {
    EXPECT_EQ(decision.not_before, kNow + absl::Seconds(row.backoff_seconds));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Ends, DecideEndTable,
    testing::Values(
        EndRow{"Completed", v1::JOB_REASON_COMPLETED, v1::BLAME_UNSPECIFIED, {}, "SUCCEEDED", "COMPLETED"},
        EndRow{"Cancelled",
               v1::JOB_REASON_CANCEL_REQUESTED,
               v1::BLAME_UNSPECIFIED,
               {1, 2, 3},
               "CANCELLED",
               "CANCEL_REQUESTED"},
        EndRow{"Paused", v1::JOB_REASON_PAUSE_REQUESTED, v1::BLAME_UNSPECIFIED, {}, "PAUSED", "PAUSE_REQUESTED"},
        EndRow{"UserBlameNeverRestarts", v1::JOB_REASON_INVALID_DATA, v1::BLAME_USER, {}, "FAILED", "INVALID_DATA"},
        EndRow{"FirstRestart", v1::JOB_REASON_KILLED, v1::BLAME_SYSTEM, {}, "BACKOFF", "RESTARTING", 10},
        EndRow{
            "SecondRestartWaitsTwice", v1::JOB_REASON_PEER_LOST, v1::BLAME_HARDWARE, {5}, "BACKOFF", "RESTARTING", 20},
        EndRow{"Exhausted", v1::JOB_REASON_KILLED, v1::BLAME_SYSTEM, {500, 5}, "FAILED", "RESTARTS_EXHAUSTED"},
        EndRow{"OldFailuresAreForgotten",
               v1::JOB_REASON_KILLED,
               v1::BLAME_SYSTEM,
               {1000, 2000},
               "BACKOFF",
               "RESTARTING",
               10}),
    [](const auto& info) { return info.param.name; });

TEST(DecideEnd, NoRestartsMeansTheFailureItself) {
  JobView job;
  job.restart.set_max_restarts(0);
  const EndDecision decision = DecideEnd(job, {v1::JOB_REASON_KILLED, v1::BLAME_SYSTEM, "gone"}, kNow, {});
  EXPECT_EQ(decision.state, v1::JOB_STATE_FAILED);
  EXPECT_EQ(decision.cause.reason, v1::JOB_REASON_KILLED);
}

TEST(DecideEnd, BackoffHasAnEnd) {
  JobView job;
  job.restart.set_max_restarts(100);
  for (int i = 0; i < 50; ++i) job.failures.push_back(kNow - absl::Seconds(i + 1));
  const EndDecision decision = DecideEnd(job, {v1::JOB_REASON_KILLED, v1::BLAME_SYSTEM, "gone"}, kNow, {});
  EXPECT_EQ(decision.not_before, kNow + SchedulerOptions().max_backoff);
}

}  // namespace
}  // namespace ithaca

#include "server/core/outcome.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "server/core/job_edit.h"

namespace ithaca {
namespace {

using testing::HasSubstr;

const absl::Time kStart = absl::FromUnixSeconds(1000);

v1::EngineExit ExitOf(int rank, int code, int signal = 0, int second = 0) {
  v1::EngineExit exit;
  exit.set_rank(rank);
  exit.set_exit_code(code);
  exit.set_signal(signal);
  *exit.mutable_time() = ToProtoTime(kStart + absl::Seconds(second));
  return exit;
}

LiveState Ranks(const std::vector<v1::EngineExit>& exits) {
  std::vector<int> slots;
  for (size_t i = 0; i < exits.size(); ++i) slots.push_back(static_cast<int>(i));
  LiveState live = NewLiveState({{"n1", v1::DEVICE_KIND_CPU, slots}}, kStart);
  for (size_t i = 0; i < exits.size(); ++i) live.ranks[i].exit = exits[i];
  return live;
}

struct Row {
  int code;
  int signal;
  std::string reason;
  v1::Blame blame;
};

class ExitTable : public testing::TestWithParam<Row> {};

TEST_P(ExitTable, HasItsReasonAndBlame) {
  const Row& row = GetParam();
  const Cause cause = CauseOfExit(ExitOf(2, row.code, row.signal), "n1");
  EXPECT_EQ(ReasonName(cause.reason), row.reason);
  EXPECT_EQ(cause.blame, row.blame);
  EXPECT_THAT(cause.message, HasSubstr("rank 2 on n1"));
}

INSTANTIATE_TEST_SUITE_P(
    Codes, ExitTable,
    testing::Values(Row{10, 0, "INVALID_CONFIG", v1::BLAME_USER}, Row{11, 0, "INVALID_DATA", v1::BLAME_USER},
                    Row{12, 0, "INVALID_MODEL", v1::BLAME_USER}, Row{20, 0, "GPU_OUT_OF_MEMORY", v1::BLAME_USER},
                    Row{21, 0, "HOST_OUT_OF_MEMORY", v1::BLAME_USER},
                    Row{30, 0, "COLLECTIVE_FAILED", v1::BLAME_HARDWARE}, Row{31, 0, "PEER_LOST", v1::BLAME_HARDWARE},
                    Row{40, 0, "CHECKPOINT_IO", v1::BLAME_SYSTEM}, Row{50, 0, "LOSS_NOT_FINITE", v1::BLAME_USER},
                    Row{70, 0, "INTERNAL", v1::BLAME_SYSTEM}, Row{75, 0, "KILLED", v1::BLAME_SYSTEM},
                    Row{3, 0, "INTERNAL", v1::BLAME_SYSTEM}, Row{0, SIGKILL, "KILLED", v1::BLAME_SYSTEM},
                    Row{0, SIGSEGV, "KILLED", v1::BLAME_SYSTEM}));

TEST(CauseOfExit, QuotesTheEngineAndTheEndOfItsLog) {
  v1::EngineExit exit = ExitOf(0, 11);
  exit.set_failed_json(R"({"event":"failed","message":"book.txt line 7 is no JSON"})");
  exit.set_last_log("one\ntwo\nthree\nfour\nfive\nsix\n");
  EXPECT_EQ(CauseOfExit(exit, "n1").message,
            "rank 0 on n1 exited with code 11 (the documents were refused): book.txt line 7 is no JSON\n"
            "last log lines:\ntwo\nthree\nfour\nfive\nsix");
}

TEST(CauseOfExit, QuotesNoMoreThanAListCanCarry) {
  v1::EngineExit exit = ExitOf(0, 11);
  exit.set_failed_json(R"({"event":"failed","message":")" + std::string(1 << 20, 'm') + R"("})");
  exit.set_last_log(std::string(1 << 20, 'l') + "\n");
  const std::string message = CauseOfExit(exit, "n1").message;
  EXPECT_LT(message.size(), 10000u);
  EXPECT_THAT(message, HasSubstr(std::string(4000, 'm')));
  EXPECT_THAT(message, HasSubstr(std::string(4000, 'l')));
}

TEST(CauseOfExit, GuessesTheOutOfMemoryKiller) {
  EXPECT_EQ(CauseOfExit(ExitOf(1, 0, SIGKILL), "n2").message,
            "rank 1 on n2 was killed (SIGKILL), perhaps by the kernel's out-of-memory killer");
  EXPECT_EQ(CauseOfExit(ExitOf(1, 0, SIGSEGV), "n2").message, "rank 1 on n2 was ended by signal 11 (SIGSEGV)");
}

TEST(FailureOf, NothingWhileAllIsWell) { EXPECT_FALSE(FailureOf(Ranks({ExitOf(0, 0), ExitOf(1, 0)})).has_value()); }

TEST(FailureOf, TheCauseIsNotTheRankThatLostItsPeer) {
  const LiveState live = Ranks({ExitOf(0, 31, 0, /*second=*/1), ExitOf(1, 20, 0, /*second=*/2)});
  EXPECT_EQ(FailureOf(live)->reason, v1::JOB_REASON_GPU_OUT_OF_MEMORY);
}

TEST(FailureOf, TheFirstInTimeAmongEquals) {
  const LiveState live = Ranks({ExitOf(0, 40, 0, /*second=*/5), ExitOf(1, 20, 0, /*second=*/2)});
  EXPECT_EQ(FailureOf(live)->reason, v1::JOB_REASON_GPU_OUT_OF_MEMORY);
}

TEST(FailureOf, WhatOurStopEndedIsNoFailure) {
  LiveState live = Ranks({ExitOf(0, 75, 0, /*second=*/5), ExitOf(1, 0, SIGKILL, /*second=*/6)});
  EXPECT_TRUE(FailureOf(live).has_value());
  live.stop_time = kStart + absl::Seconds(4);
  EXPECT_FALSE(FailureOf(live).has_value());
}

v1::Job JobIn(v1::JobState state, v1::JobReason reason, v1::Blame blame = v1::BLAME_UNSPECIFIED) {
  v1::Job job;
  job.set_state(state);
  SetCause(job, {reason, blame, "as stored"});
  return job;
}

TEST(OutcomeOf, AllRanksDoneIsCompletedEvenIfACancelCameTooLate) {
  const LiveState live = Ranks({ExitOf(0, 0), ExitOf(1, 0)});
  EXPECT_EQ(OutcomeOf(JobIn(v1::JOB_STATE_RUNNING, v1::JOB_REASON_UNSPECIFIED), live).reason, v1::JOB_REASON_COMPLETED);
  EXPECT_EQ(OutcomeOf(JobIn(v1::JOB_STATE_STOPPING, v1::JOB_REASON_CANCEL_REQUESTED), live).reason,
            v1::JOB_REASON_COMPLETED);
}

TEST(OutcomeOf, ACancelIsACancelHoweverTheRanksEnded) {
  const LiveState live = Ranks({ExitOf(0, 70), ExitOf(1, 0, SIGKILL)});
  EXPECT_EQ(OutcomeOf(JobIn(v1::JOB_STATE_STOPPING, v1::JOB_REASON_CANCEL_REQUESTED), live).reason,
            v1::JOB_REASON_CANCEL_REQUESTED);
}

TEST(OutcomeOf, ALostPeerIsExplainedByWhatComesLater) {
  LiveState live = Ranks({ExitOf(0, 31, 0, 1), ExitOf(1, 0, SIGKILL, 2)});
  live.stop_time = kStart + absl::Seconds(3);
  EXPECT_EQ(OutcomeOf(JobIn(v1::JOB_STATE_STOPPING, v1::JOB_REASON_PEER_LOST, v1::BLAME_HARDWARE), live).reason,
            v1::JOB_REASON_KILLED);
}

TEST(OutcomeOf, ATimeoutStaysATimeout) {
  LiveState live = Ranks({ExitOf(0, 40, 0, 9), ExitOf(1, 31, 0, 9)});
  live.stop_time = kStart + absl::Seconds(3);
  const Cause outcome = OutcomeOf(JobIn(v1::JOB_STATE_STOPPING, v1::JOB_REASON_RUN_TIMEOUT, v1::BLAME_USER), live);
  EXPECT_EQ(outcome.reason, v1::JOB_REASON_RUN_TIMEOUT);
  EXPECT_EQ(outcome.blame, v1::BLAME_USER);
}

TEST(OutcomeOf, AWorkerThatVanishedIsLost) {
  LiveState live = NewLiveState({{"n1", v1::DEVICE_KIND_CPU, {0}}}, kStart);
  live.workers[0].gone = true;
  live.workers[0].gone_detail = "was killed by signal 9";
  const Cause outcome = OutcomeOf(JobIn(v1::JOB_STATE_RUNNING, v1::JOB_REASON_UNSPECIFIED), live);
  EXPECT_EQ(outcome.reason, v1::JOB_REASON_WORKER_LOST);
  EXPECT_EQ(outcome.message, "a worker is gone: it was killed by signal 9");
}

TEST(OutcomeOf, DoneWithoutExitsIsNoSuccess) {
  LiveState live = NewLiveState({{"n1", v1::DEVICE_KIND_CPU, {0}}}, kStart);
  live.workers[0].done = true;
  EXPECT_EQ(OutcomeOf(JobIn(v1::JOB_STATE_RUNNING, v1::JOB_REASON_UNSPECIFIED), live).reason, v1::JOB_REASON_INTERNAL);
}

}  // namespace
}  // namespace ithaca

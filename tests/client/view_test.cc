#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <sstream>

#include "client/format.h"
#include "client/job_view.h"
#include "client/watch_view.h"

namespace ithaca::client {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

template <typename Message>
Message Parse(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message));
  return message;
}

v1::Job RunningJob() {
  return Parse<v1::Job>(R"pb(
    id: "j-7"
    name: "long-book"
    state: JOB_STATE_RUNNING
    attempt: 2
    spec {
      name: "long-book"
      model { path: "/m" }
      data { sequence_length: 65536 }
      training { steps: 200 }
    }
    labels { key: "team" value: "nlp" }
    create_time { seconds: 1000 }
    start_time { seconds: 1010 }
    progress {
      step: 50
      total_steps: 200
      loss: 2.71828
      grad_norm: 0.5
      tokens_per_second: 12345.6
      eta_seconds: 820
      learning_rate: 2e-5
      mfu: 0.412
      eval_loss: 2.9
    }
    ranks {
      rank: 0
      host: "node-a"
      pid: 41
      phase: "forward"
      step: 51
      memory_bytes: 1073741824
      peak_memory_bytes: 2147483648
    }
    ranks { rank: 1 host: "node-b" step: 51 })pb");
}

v1::StreamMetricsResponse Step(int step, double loss) {
  v1::StreamMetricsResponse metrics;
  metrics.mutable_step()->set_step(step);
  metrics.mutable_step()->set_loss(loss);
  metrics.mutable_step()->set_grad_norm(1.25);
  metrics.mutable_step()->set_seconds(2);
  metrics.mutable_step()->set_tokens_per_second(4096);
  metrics.mutable_step()->set_learning_rate(1e-5);
  return metrics;
}

TEST(JobView, ListShowsProgressAndWhyAJobWaits) {
  v1::Job waiting = Parse<v1::Job>(R"pb(id: "j-8"
                                        name: "next"
                                        state: JOB_STATE_QUEUED
                                        create_time { seconds: 1090 }
                                        reason: JOB_REASON_WAITING_FOR_SLOTS)pb");
  EXPECT_EQ(FormatJobList({waiting, RunningJob()}, 1100, 120),
            "JOB  NAME       STATE      STEP    LOSS  TOKENS/S     AGE  WHY\n"
            "j-8  next       QUEUED        -       -         -     10s  waiting for slots\n"
            "j-7  long-book  RUNNING  50/200  2.7183    12,346  1m 40s\n");
}

TEST(JobView, ListFitsTheTerminal) {
  v1::Job failed = RunningJob();
  failed.set_state(v1::JOB_STATE_FAILED);
  failed.set_message(std::string(500, 'x') + "\nsecond line");
  std::istringstream lines(FormatJobList({failed}, 1100, 90));
  for (std::string line; std::getline(lines, line);) EXPECT_LE(DisplayWidth(line), 90u) << line;
}

TEST(JobView, JobShowsItsFieldsMessageAndRanks) {
  v1::Job job = RunningJob();
  job.set_state(v1::JOB_STATE_FAILED);
  job.set_reason(v1::JOB_REASON_KILLED);
  job.set_blame(v1::BLAME_HARDWARE);
  job.set_message("rank 1 on node-b was killed by signal 9\nlast line of its log");
  job.mutable_end_time()->set_seconds(1100);
  const std::string text = FormatJob(job, 5000);
  EXPECT_THAT(text, HasSubstr("state        FAILED\nreason       killed\nup to        the hardware\nattempt      2\n"));
  EXPECT_THAT(text, HasSubstr("label        team=nlp\n"));
  EXPECT_THAT(text, HasSubstr("ran for      1m 30s\n"));
  EXPECT_THAT(text, HasSubstr("step         50/200\nloss         2.7183\neval loss    2.9000\n"));
  EXPECT_THAT(text, HasSubstr("\nrank 1 on node-b was killed by signal 9\nlast line of its log\n"));
  EXPECT_THAT(text, HasSubstr("   0  node-a   41  forward    51"));
}

TEST(JobView, EventsNameTheStateOrTheEnginesWords) {
  const std::string text = FormatEvents({Parse<v1::Event>(R"pb(time { seconds: 1764075845 }
                                                               kind: "state"
                                                               state: JOB_STATE_STARTING
                                                               attempt: 1)pb"),
                                         Parse<v1::Event>(R"pb(time { seconds: 1764075846 }
                                                               kind: "ready"
                                                               rank: 1
                                                               attempt: 1
                                                               json: "{}")pb")},
                                        100);
  EXPECT_EQ(text,
            "TIME (UTC)           ATTEMPT  RANK  KIND   WHAT\n"
            "2025-11-25 13:04:05        1     -  state  STARTING\n"
            "2025-11-25 13:04:06        1     1  ready  {}\n");
}

TEST(JobView, MetricsRowsStandUnderTheirTitles) {
  EXPECT_EQ(FormatMetricsHeader(),
            "    STEP       LOSS  GRAD NORM        LR    TOKENS/S   SECONDS     MFU        PEAK\n");
  EXPECT_EQ(FormatMetricsRow(Step(7, 2.5)),
            "       7     2.5000     1.2500   1.0e-05       4,096      2.00       -           -\n");
}

TEST(WatchView, ScreenShowsBarLossCurveSpeedAndRanks) {
  WatchedJob watched;
  watched.Update(RunningJob());
  for (int step = 1; step <= 50; ++step) watched.Add(Step(step, 4.0 - 0.02 * step));
  const std::string screen = FormatWatchScreen(watched, 1110, 100);
  EXPECT_THAT(screen, HasSubstr("long-book   RUNNING   j-7   attempt 2   1m 40s\n"));
  EXPECT_THAT(screen, HasSubstr("step 50/200  ████████████▌"));
  EXPECT_THAT(screen, HasSubstr(" 25%  13m 40s left\n"));
  EXPECT_THAT(screen, HasSubstr("loss 2.7183   ██▇▇▇▇▇▆▆▆▆▅▅▅▅▄▄▄▄▃▃▃▃▂▂▂▂▂▁▁   held-out 2.9000   grad norm 0.500\n"));
  EXPECT_THAT(screen, HasSubstr("12,346 tokens/s   MFU 41.2%   learning rate 2.0e-05   2.0s a step\n"));
  EXPECT_THAT(screen, HasSubstr("   1  node-b    -  -"));
}

TEST(WatchView, EveryLineFitsNarrowTerminals) {
  WatchedJob watched;
  v1::Job job = RunningJob();
  job.set_state(v1::JOB_STATE_BACKOFF);
  job.set_message(std::string(300, 'y'));
  job.clear_ranks();
  watched.Update(job);
  for (int step = 1; step <= 50; ++step) watched.Add(Step(step, 4.0 - 0.02 * step));
  for (const int columns : {40, 60, 80, 200}) {
    std::istringstream lines(FormatWatchScreen(watched, 1110, columns));
    for (std::string line; std::getline(lines, line);) {
      EXPECT_LE(DisplayWidth(line), static_cast<size_t>(columns)) << line;
    }
  }
}

TEST(WatchView, TimeLeftIsTheCoordinatorsElseByTheLastSteps) {
  WatchedJob watched;
  v1::Job job = RunningJob();
  watched.Update(job);
  EXPECT_EQ(watched.SecondsLeft(), 820);
  job.mutable_progress()->set_eta_seconds(0);
  watched.Update(job);
  EXPECT_EQ(watched.SecondsLeft(), std::nullopt);
  watched.Add(Step(50, 2.7));
  EXPECT_EQ(watched.SecondsLeft(), 300);
}

TEST(WatchView, QueuedJobSaysWhyItWaits) {
  WatchedJob watched;
  watched.Update(Parse<v1::Job>(R"pb(id: "j-8"
                                     name: "next"
                                     state: JOB_STATE_QUEUED
                                     create_time { seconds: 1090 }
                                     message: "waits for 2 slots, 1 is free"
                                     spec { training { steps: 5 } })pb"));
  const std::string screen = FormatWatchScreen(watched, 1100, 80);
  EXPECT_THAT(screen, HasSubstr("next   QUEUED   j-8   10s\nwaits for 2 slots, 1 is free\nstep 0/5"));
  EXPECT_THAT(screen, Not(HasSubstr("loss")));
}

TEST(WatchView, LinesForOutputThatIsNoTerminal) {
  WatchedJob watched;
  watched.Update(RunningJob());
  EXPECT_EQ(FormatStepLine(Step(51, 2.5), watched),
            "step 51/200  loss 2.5000  grad norm 1.2500  4,096 tokens/s  2.0s  peak 2.00 GiB  13m 40s left\n");
  v1::StreamMetricsResponse eval;
  eval.mutable_eval()->set_step(10);
  eval.mutable_eval()->set_loss(3.25);
  EXPECT_EQ(FormatStepLine(eval, watched), "held-out loss 3.2500 after step 10\n");
  EXPECT_EQ(FormatStateLine(RunningJob()), "j-7  long-book  RUNNING\n");
}

}  // namespace
}  // namespace ithaca::client

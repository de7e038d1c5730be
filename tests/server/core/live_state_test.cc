#include "server/core/live_state.h"

#include <gtest/gtest.h>

namespace ithaca {
namespace {

const AttemptKey kKey{"j1", 2};

LiveState TwoRanks() { return NewLiveState({{"n1", v1::DEVICE_KIND_CPU, {0, 1}}}, absl::FromUnixSeconds(0)); }

TEST(LiveState, RanksAreNumberedNodeByNode) {
  const std::vector<NodePlacement> placement = {{"n1", v1::DEVICE_KIND_CPU, {3, 4}}, {"n2", v1::DEVICE_KIND_CPU, {0}}};
  const LiveState live = NewLiveState(placement, absl::FromUnixSeconds(0));
  ASSERT_EQ(live.ranks.size(), 3u);
  EXPECT_EQ(live.ranks[2].status.host(), "n2");
  EXPECT_EQ(live.ranks[2].status.rank(), 2);
  EXPECT_EQ(FirstRank(placement, 1), 2);
  EXPECT_EQ(live.workers.size(), 2u);
}

TEST(LiveState, AStepIsProgress) {
  LiveState live = TwoRanks();
  ApplyEvent(kKey,
             {0, 0,
              R"({"event":"step","time":12.5,"rank":0,"step":3,"loss":2.5,"grad_norm":0.5,"learning_rate":1e-5,
                  "tokens":100,"target_tokens":99,"seconds":2.0,"tokens_per_second":50.0,"mfu":null,"total_steps":5,
                  "seconds_by_phase":{"forward":0.5},"memory":{"peak":7}})"},
             live);
  EXPECT_EQ(live.progress.step(), 3);
  EXPECT_EQ(live.progress.total_steps(), 5);
  EXPECT_EQ(live.progress.loss(), 2.5);
  EXPECT_EQ(live.progress.eta_seconds(), 4.0);  // two steps of two seconds
  EXPECT_EQ(live.progress.update_time().seconds(), 12);
  EXPECT_EQ(live.last_step.seconds_by_phase().forward(), 0.5);
  EXPECT_EQ(live.last_step.memory().peak_bytes(), 7);
  EXPECT_EQ(live.tokens_total, 100);
  EXPECT_EQ(live.first_step, 3);
}

TEST(LiveState, ReadyNeedsEveryRank) {
  LiveState live = TwoRanks();
  ApplyEvent(kKey, {0, 0, R"({"event":"ready"})"}, live);
  EXPECT_FALSE(AllReady(live));
  ApplyEvent(kKey, {1, 0, R"({"event":"ready"})"}, live);
  EXPECT_TRUE(AllReady(live));
}

TEST(LiveState, ACheckpointIsReturned) {
  LiveState live = TwoRanks();
  const auto checkpoint = ApplyEvent(
      kKey, {0, 0, R"({"event":"checkpoint","time":5,"step":20,"path":"/c/step-20","bytes":1234,"seconds":1})"}, live);
  ASSERT_TRUE(checkpoint.has_value());
  EXPECT_EQ(checkpoint->job_id, "j1");
  EXPECT_EQ(checkpoint->checkpoint.attempt(), 2);
  EXPECT_EQ(checkpoint->checkpoint.step(), 20);
  EXPECT_EQ(checkpoint->checkpoint.path(), "/c/step-20");
  EXPECT_EQ(checkpoint->checkpoint.size_bytes(), 1234);
  EXPECT_FALSE(checkpoint->is_export);
  const auto exported =
      ApplyEvent(kKey, {0, 9, R"({"event":"checkpoint","step":20,"path":"/c/export","export":true})"}, live);
  EXPECT_TRUE(exported->is_export);
}

TEST(LiveState, GarbageChangesNothing) {
  for (const char* line : {"", "no json", "[1]", "{\"event\":5}", "{\"event\":\"step\",\"step\":\"x\",\"loss\":{}}",
                           "{\"event\":\"step\",\"step\":1e300,\"time\":-1e300}", "{\"event\":\"checkpoint\"}"}) {
    LiveState live = TwoRanks();
    EXPECT_FALSE(ApplyEvent(kKey, {0, 0, line}, live).has_value()) << line;
    EXPECT_EQ(live.progress.step(), 0) << line;
    EXPECT_FALSE(AllReady(live)) << line;
  }
  LiveState live = TwoRanks();
  ApplyEvent(kKey, {7, 0, R"({"event":"ready"})"}, live);
  ApplyEvent(kKey, {-1, 0, R"({"event":"ready"})"}, live);
  EXPECT_FALSE(live.ranks[0].ready);
}

TEST(LiveState, AHeartbeatIsHeardAndPeaksOnlyRise) {
  LiveState live = TwoRanks();
  v1::Heartbeat heartbeat;
  heartbeat.set_rank(1);
  heartbeat.set_phase("backward");
  heartbeat.set_step(4);
  heartbeat.mutable_memory()->set_peak_bytes(100);
  ApplyHeartbeat(heartbeat, absl::FromUnixSeconds(50), live);
  heartbeat.mutable_memory()->set_peak_bytes(60);
  ApplyHeartbeat(heartbeat, absl::FromUnixSeconds(51), live);
  EXPECT_EQ(live.ranks[1].status.phase(), "backward");
  EXPECT_EQ(live.ranks[1].status.peak_memory_bytes(), 100);
  EXPECT_EQ(live.ranks[1].last_heard, absl::FromUnixSeconds(51));
  EXPECT_EQ(live.ranks[0].last_heard, absl::InfiniteFuture());
}

TEST(LiveState, StepsAndEvaluationsHaveAFileOfTheirOwn) {
  EXPECT_EQ(FileOf({0, 0, R"({"event":"step"})"}), EventFile::kSteps);
  EXPECT_EQ(FileOf({0, 0, R"({"event":"eval"})"}), EventFile::kSteps);
  EXPECT_EQ(FileOf({0, 0, R"({"event":"ready"})"}), EventFile::kEvents);
  EXPECT_EQ(FileOf({0, 0, "garbage"}), EventFile::kEvents);
}

TEST(LiveState, OverOnlyWhenEveryWorkerIs) {
  LiveState live =
      NewLiveState({{"n1", v1::DEVICE_KIND_CPU, {0}}, {"n2", v1::DEVICE_KIND_CPU, {0}}}, absl::FromUnixSeconds(0));
  live.workers[0].done = true;
  EXPECT_FALSE(AllEnded(live));
  EXPECT_FALSE(AnyWorkerLost(live));
  live.workers[1].gone = true;
  EXPECT_TRUE(AllEnded(live));
  EXPECT_TRUE(AnyWorkerLost(live));
  live.workers[1].done = true;
  EXPECT_FALSE(AnyWorkerLost(live));
}

}  // namespace
}  // namespace ithaca

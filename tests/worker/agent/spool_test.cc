#include "worker/agent/spool.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tests/fakes/temporary_directory.h"

namespace ithaca {
namespace {

using fakes::TemporaryDirectory;

v1::Ack AckOf(int rank, int64_t events, int64_t log) {
  v1::Ack ack;
  v1::RankOffsets* offsets = ack.add_ranks();
  offsets->set_rank(rank);
  offsets->set_event_offset(events);
  offsets->set_log_offset(log);
  return ack;
}

class SpoolTest : public ::testing::Test {
 protected:
  SpoolTest() : spool_(directory_.path()) { EXPECT_TRUE(spool_.AddRank(0).ok()); }

  void AppendLog(const std::string& text) {
    std::ofstream(spool_.LogPath(0), std::ios::app) << text;
    log_size_ += static_cast<int64_t>(text.size());
  }

  TemporaryDirectory directory_;
  Spool spool_;
  int64_t log_size_ = 0;
};

TEST_F(SpoolTest, GivesEventsTheOffsetsOfTheirLines) {
  spool_.AppendEvent(0, "{\"a\":1}");
  spool_.AppendEvent(0, "{}");
  v1::Batch batch;
  ASSERT_TRUE(spool_.TakeBatch(&batch));
  ASSERT_EQ(batch.events_size(), 2);
  EXPECT_EQ(batch.events(0).offset(), 0);
  EXPECT_EQ(batch.events(0).json(), "{\"a\":1}");
  EXPECT_EQ(batch.events(1).offset(), 8);
  EXPECT_FALSE(spool_.TakeBatch(&batch));
  EXPECT_TRUE(spool_.AllSent());
  EXPECT_FALSE(spool_.AllAcknowledged());
}

TEST_F(SpoolTest, SendsAgainOnANewStreamWhatLiesBeyondTheAck) {
  spool_.AppendEvent(0, "{\"a\":1}");
  spool_.AppendEvent(0, "{\"b\":2}");
  AppendLog("first\nsecond\n");
  v1::Batch batch;
  ASSERT_TRUE(spool_.TakeBatch(&batch));
  spool_.Rewind();
  spool_.Acknowledge(AckOf(0, 8, 6));
  ASSERT_TRUE(spool_.TakeBatch(&batch));
  ASSERT_EQ(batch.events_size(), 1);
  EXPECT_EQ(batch.events(0).offset(), 8);
  ASSERT_EQ(batch.logs_size(), 1);
  EXPECT_EQ(batch.logs(0).offset(), 6);
  EXPECT_EQ(batch.logs(0).data(), "second\n");
  spool_.Acknowledge(AckOf(0, 16, 13));
  EXPECT_TRUE(spool_.AllAcknowledged());
}

TEST_F(SpoolTest, CutsMuchIntoBatchesBelowTheMessageLimitWithoutLossOrGap) {
  const std::string line = "{\"text\":\"" + std::string(50000, 'x') + "\"}";
  for (int i = 0; i < 200; ++i) spool_.AppendEvent(0, line);
  for (int i = 0; i < 100; ++i) AppendLog(std::string(50000, 'y'));
  int64_t next_event = 0, next_log = 0;
  int batches = 0;
  for (v1::Batch batch; spool_.TakeBatch(&batch); ++batches) {
    ASSERT_LT(batch.ByteSizeLong(), 3u << 20);
    for (const v1::EngineEvent& event : batch.events()) {
      ASSERT_EQ(event.offset(), next_event);
      ASSERT_EQ(event.json(), line);
      next_event += static_cast<int64_t>(line.size()) + 1;
    }
    for (const v1::LogChunk& chunk : batch.logs()) {
      ASSERT_EQ(chunk.offset(), next_log);
      next_log += static_cast<int64_t>(chunk.data().size());
    }
  }
  EXPECT_GT(batches, 4);
  EXPECT_EQ(next_event, 200 * (static_cast<int64_t>(line.size()) + 1));
  EXPECT_EQ(next_log, log_size_);
}

TEST_F(SpoolTest, HoldsALineOfExactlyTheLimitAndRefusesALongerOne) {
  spool_.AppendEvent(0, std::string(1 << 20, 'x'));
  spool_.AppendEvent(0, std::string((1 << 20) + 1, 'y'));
  spool_.AppendEvent(0, "{}");
  std::vector<size_t> sizes;
  for (v1::Batch batch; spool_.TakeBatch(&batch);) {
    for (const v1::EngineEvent& event : batch.events()) sizes.push_back(event.json().size());
  }
  EXPECT_EQ(sizes, (std::vector<size_t>{1 << 20, 2}));
  EXPECT_EQ(spool_.dropped_events(), 1);
}

TEST_F(SpoolTest, GivesDiskSpaceBackOnceAcknowledged) {
  const std::string line(1 << 20, 'x');
  for (int i = 0; i < 20; ++i) spool_.AppendEvent(0, line);
  v1::Batch batch;
  while (spool_.TakeBatch(&batch)) {
  }
  spool_.Acknowledge(AckOf(0, 20 * ((1 << 20) + 1), 0));
  struct stat status;
  ASSERT_EQ(::stat((directory_.path() + "/rank-0.events").c_str(), &status), 0);
  if (static_cast<int64_t>(status.st_blocks) * 512 > (19 << 20)) GTEST_SKIP() << "this file system cannot punch holes";
  EXPECT_LT(static_cast<int64_t>(status.st_blocks) * 512, 2 << 20);
  spool_.AppendEvent(0, "{}");
  ASSERT_TRUE(spool_.TakeBatch(&batch));
  EXPECT_EQ(batch.events(0).offset(), 20 * ((1 << 20) + 1));
}

TEST_F(SpoolTest, SendsAHeartbeatOnceAndOnlyTheNewest) {
  v1::Heartbeat heartbeat;
  heartbeat.set_step(1);
  spool_.SetHeartbeat(heartbeat);
  heartbeat.set_step(2);
  spool_.SetHeartbeat(heartbeat);
  v1::Batch batch;
  ASSERT_TRUE(spool_.TakeBatch(&batch));
  ASSERT_EQ(batch.heartbeats_size(), 1);
  EXPECT_EQ(batch.heartbeats(0).step(), 2);
  EXPECT_FALSE(spool_.TakeBatch(&batch));
}

}  // namespace
}  // namespace ithaca

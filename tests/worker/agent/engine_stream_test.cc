#include "worker/agent/engine_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ithaca {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(EngineStreamTest, JoinsALineThatCameInPieces) {
  EngineStream stream(0);
  EXPECT_THAT(stream.Feed("{\"event\":\"re").events, IsEmpty());
  const EngineRecords records = stream.Feed("ady\"}\n{\"event\":");
  EXPECT_THAT(records.events, ElementsAre("{\"event\":\"ready\"}"));
  EXPECT_TRUE(records.urgent);
  EXPECT_EQ(records.broken_lines, 0);
}

TEST(EngineStreamTest, CountsAndDropsWhatIsNoEvent) {
  EngineStream stream(0);
  const EngineRecords records = stream.Feed(
      "not json\n{}\n[1]\nnull\n{\"event\":7}\n\n{\"event\":\"step\" \xff}\n{\"event\":\"step\",\"step\":1}\n");
  EXPECT_THAT(records.events, ElementsAre("{\"event\":\"step\",\"step\":1}"));
  EXPECT_EQ(records.broken_lines, 7);
  EXPECT_FALSE(records.urgent);
}

TEST(EngineStreamTest, SkipsALineLongerThanTheLimitAndGoesOnAfterIt) {
  EngineStream stream(0);
  int64_t broken = 0;
  for (int i = 0; i < 30; ++i) broken += stream.Feed(std::string(100000, 'x')).broken_lines;
  const EngineRecords records = stream.Feed("end\n{\"event\":\"ready\"}\n");
  EXPECT_EQ(broken + records.broken_lines, 1);
  EXPECT_THAT(records.events, ElementsAre("{\"event\":\"ready\"}"));
}

TEST(EngineStreamTest, KeepsOnlyTheNewestHeartbeatAndNoneAmongTheEvents) {
  EngineStream stream(3);
  const EngineRecords records = stream.Feed(
      "{\"event\":\"heartbeat\",\"step\":1}\n"
      "{\"event\":\"heartbeat\",\"step\":2,\"time\":12.5,\"phase\":\"forward\",\"memory\":{\"allocated\":7,\"peak\":9}}"
      "\n");
  EXPECT_THAT(records.events, IsEmpty());
  ASSERT_TRUE(records.heartbeat.has_value());
  EXPECT_EQ(records.heartbeat->rank(), 3);
  EXPECT_EQ(records.heartbeat->step(), 2);
  EXPECT_EQ(records.heartbeat->phase(), "forward");
  EXPECT_EQ(records.heartbeat->time().seconds(), 12);
  EXPECT_EQ(records.heartbeat->memory().allocated_bytes(), 7);
  EXPECT_EQ(records.heartbeat->memory().peak_bytes(), 9);
}

TEST(EngineStreamTest, SurvivesAHeartbeatWithNonsenseInEveryField) {
  EngineStream stream(0);
  const EngineRecords records = stream.Feed(
      "{\"event\":\"heartbeat\",\"step\":1e300,\"time\":-5,\"phase\":[],\"memory\":{\"peak\":\"x\",\"allocated\":-"
      "1e999}}\n"
      "{\"event\":\"heartbeat\",\"step\":\"x\",\"time\":1e99,\"phase\":7,\"memory\":3}\n");
  ASSERT_TRUE(records.heartbeat.has_value());
  EXPECT_EQ(records.heartbeat->step(), 0);
  EXPECT_LE(records.heartbeat->time().seconds(), 253402300799);
}

TEST(EngineStreamTest, ReportsWhereRankZeroListensOnlyWithARealPort) {
  EngineStream stream(0);
  EXPECT_FALSE(stream.Feed("{\"event\":\"listening\",\"host\":\"h\",\"port\":70000}\n").listening.has_value());
  const EngineRecords records = stream.Feed("{\"event\":\"listening\",\"host\":\"127.0.0.1\",\"port\":4242}\n");
  ASSERT_TRUE(records.listening.has_value());
  EXPECT_EQ(records.listening->host(), "127.0.0.1");
  EXPECT_EQ(records.listening->port(), 4242);
}

}  // namespace
}  // namespace ithaca

#include "client/format.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ithaca::client {
namespace {

TEST(Format, SecondsBecomeTheTwoLargestUnits) {
  EXPECT_EQ(FormatSeconds(0), "0.0s");
  EXPECT_EQ(FormatSeconds(4.13), "4.1s");
  EXPECT_EQ(FormatSeconds(9.97), "10s");
  EXPECT_EQ(FormatSeconds(59.6), "1m 00s");
  EXPECT_EQ(FormatSeconds(820), "13m 40s");
  EXPECT_EQ(FormatSeconds(7500), "2h 05m");
  EXPECT_EQ(FormatSeconds(273600), "3d 04h");
  EXPECT_EQ(FormatSeconds(-1), "-");
  EXPECT_EQ(FormatSeconds(std::nan("")), "-");
}

TEST(Format, IntegersGetThousandsSeparators) {
  EXPECT_EQ(FormatInteger(0), "0");
  EXPECT_EQ(FormatInteger(999), "999");
  EXPECT_EQ(FormatInteger(1000), "1,000");
  EXPECT_EQ(FormatInteger(-1234567), "-1,234,567");
  EXPECT_EQ(FormatInteger(-123), "-123");
}

TEST(Format, NamesComeFromTheContract) {
  EXPECT_EQ(StateName(v1::JOB_STATE_RUNNING), "RUNNING");
  EXPECT_EQ(StateName(static_cast<v1::JobState>(99)), "state 99");
  EXPECT_EQ(ReasonName(v1::JOB_REASON_GPU_OUT_OF_MEMORY), "gpu out of memory");
  EXPECT_EQ(ReasonName(v1::JOB_REASON_UNSPECIFIED), "");
}

TEST(Format, OnlyTheThreeLastStatesAreTerminal) {
  for (int state = v1::JobState_MIN; state <= v1::JobState_MAX; ++state) {
    EXPECT_EQ(IsTerminal(static_cast<v1::JobState>(state)), state >= v1::JOB_STATE_SUCCEEDED) << state;
  }
}

TEST(Format, ProgressBarFillsByEighths) {
  EXPECT_EQ(ProgressBar(0, 4), "░░░░");
  EXPECT_EQ(ProgressBar(0.5, 4), "██░░");
  EXPECT_EQ(ProgressBar(0.625, 4), "██▌░");
  EXPECT_EQ(ProgressBar(1, 4), "████");
  EXPECT_EQ(ProgressBar(7, 4), "████");
  EXPECT_EQ(ProgressBar(0.5, 0), "");
}

TEST(Format, TableAlignsByDisplayWidth) {
  Table table({{"NAME"}, {"N", Table::Align::kRight}, {"X"}});
  table.AddRow({"é", "1000", ""});
  table.AddRow({"abc", "1", "x"});
  EXPECT_EQ(table.ToString(),
            "NAME     N  X\n"
            "é     1000\n"
            "abc      1  x\n");
}

TEST(Format, TruncateCountsCharactersNotBytes) {
  EXPECT_EQ(Truncate("éééé", 4), "éééé");
  EXPECT_EQ(Truncate("ééééé", 4), "é...");
  EXPECT_EQ(Truncate("abc", 2), "..");
}

v1::Job SampleJob() {
  v1::Job job;
  job.set_id("j1");
  job.set_state(v1::JOB_STATE_RUNNING);
  job.mutable_spec()->set_name("a");
  (*job.mutable_spec()->mutable_labels())["n"] = "7";
  job.mutable_spec()->mutable_model()->set_dtype(v1::DATA_TYPE_FLOAT32);
  job.mutable_create_time()->set_seconds(1764075845);
  job.mutable_progress()->set_step(3);
  job.mutable_progress()->set_loss(2.5);
  job.set_message("two\nlines");
  return job;
}

TEST(Format, JsonKeepsNumbersAndTheWordsOfTheJobFile) {
  EXPECT_EQ(ToJsonLine(SampleJob()),
            R"({"id":"j1","spec":{"name":"a","labels":{"n":"7"},"model":{"dtype":"float32"}},"state":"running",)"
            R"("message":"two\nlines","create_time":"2025-11-25T13:04:05Z","progress":{"step":3,"loss":2.5}})"
            "\n");
}

TEST(Format, YamlSaysTheSameAndQuotesTextThatLooksLikeNumbers) {
  EXPECT_EQ(ToYamlText(SampleJob()),
            "id: j1\n"
            "spec:\n"
            "  name: a\n"
            "  labels:\n"
            "    n: \"7\"\n"
            "  model:\n"
            "    dtype: float32\n"
            "state: running\n"
            "message: |\n"
            "  two\n"
            "  lines\n"
            "create_time: 2025-11-25T13:04:05Z\n"
            "progress:\n"
            "  step: 3\n"
            "  loss: 2.5\n");
}

TEST(Format, JsonOfBytesThatAreNotUtf8IsStillJson) {
  v1::Job job;
  job.set_message("bad \xff byte");
  EXPECT_EQ(ToJsonLine(job), "{\"message\":\"bad \xef\xbf\xbd byte\"}\n");
}

}  // namespace
}  // namespace ithaca::client

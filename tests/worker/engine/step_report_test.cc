#include "worker/engine/step_report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace ithaca::engine {
namespace {

const at::Device kCpu(at::kCPU);

TEST(PhaseTimerTest, PhasesAddUpToTheWholeAndOtherSpansCountElsewhere) {
  PhaseTimer timer(kCpu);
  timer.Count("data");
  const DeviceMoment begin(kCpu);
  const DeviceMoment end(kCpu);
  timer.Count("forward", "exchange", {{begin, end}, {begin, end}});
  timer.Count("forward");
  timer.Count("optimizer");
  const double total = timer.TotalSeconds();
  const std::map<std::string, double> seconds = timer.SecondsByPhase();
  EXPECT_EQ(seconds.size(), 6);  // every phase is there, also those that were not
  EXPECT_EQ(seconds.at("backward"), 0);
  EXPECT_DOUBLE_EQ(seconds.at("exchange"), 2 * end.SecondsSince(begin));
  double sum = 0;
  for (const auto& [phase, part] : seconds) sum += part;
  EXPECT_GT(sum, 0);
  EXPECT_LE(sum, total);
}

TEST(PhaseTimerTest, RestartForgets) {
  PhaseTimer timer(kCpu);
  timer.Count("forward");
  timer.Restart();
  EXPECT_EQ(timer.SecondsByPhase().at("forward"), 0);
}

TEST(StepReportTest, MfuIsNullWithoutAPeak) {
  StepReport report = {.step = 3, .tokens = 100, .seconds = 2, .flops = 50};
  EXPECT_TRUE(ToJson(report).at("mfu").is_null());
  EXPECT_EQ(ToJson(report).at("tokens_per_second"), 50);
  report.peak_flops = 100;
  EXPECT_EQ(ToJson(report).at("mfu"), 0.25);
}

}  // namespace
}  // namespace ithaca::engine

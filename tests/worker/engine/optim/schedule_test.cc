#include "worker/engine/optim/schedule.h"

#include <gtest/gtest.h>

namespace ithaca::engine {
namespace {

TEST(ScheduleTest, WarmsUpLinearlyAndReachesThePeakAtItsLastStep) {
  const Schedule schedule(plan::ScheduleType::kConstant, 1.0, 4, 0.1, 100);
  EXPECT_DOUBLE_EQ(schedule.LearningRate(0), 0.25);
  EXPECT_DOUBLE_EQ(schedule.LearningRate(1), 0.5);
  EXPECT_DOUBLE_EQ(schedule.LearningRate(3), 1.0);
  EXPECT_DOUBLE_EQ(schedule.LearningRate(99), 1.0);
}

TEST(ScheduleTest, CosineFallsFromThePeakThroughTheMiddleToTheMinimum) {
  const Schedule schedule(plan::ScheduleType::kCosine, 2.0, 0, 0.1, 101);
  EXPECT_DOUBLE_EQ(schedule.LearningRate(0), 2.0);
  EXPECT_NEAR(schedule.LearningRate(50), 1.1, 1e-12);
  EXPECT_NEAR(schedule.LearningRate(100), 0.2, 1e-12);
  for (int step = 1; step <= 100; ++step) EXPECT_LT(schedule.LearningRate(step), schedule.LearningRate(step - 1));
}

TEST(ScheduleTest, CosineAfterWarmUpStartsAtThePeak) {
  const Schedule schedule(plan::ScheduleType::kCosine, 1.0, 10, 0.0, 111);
  EXPECT_DOUBLE_EQ(schedule.LearningRate(9), 1.0);
  EXPECT_DOUBLE_EQ(schedule.LearningRate(10), 1.0);
  EXPECT_NEAR(schedule.LearningRate(110), 0.0, 1e-12);
  EXPECT_NEAR(schedule.LearningRate(500), 0.0, 1e-12);
}

TEST(ScheduleTest, LinearFallsByTheSameEachStep) {
  const Schedule schedule(plan::ScheduleType::kLinear, 1.0, 10, 0.2, 111);
  EXPECT_DOUBLE_EQ(schedule.LearningRate(10), 1.0);
  EXPECT_NEAR(schedule.LearningRate(35), 0.8, 1e-12);
  EXPECT_NEAR(schedule.LearningRate(60), 0.6, 1e-12);
  EXPECT_NEAR(schedule.LearningRate(110), 0.2, 1e-12);
}

TEST(ScheduleTest, WsdStaysAtThePeakAndFallsOverTheLastTenth) {
  const Schedule schedule(plan::ScheduleType::kWsd, 1.0, 10, 0.5, 111);
  EXPECT_DOUBLE_EQ(schedule.LearningRate(10), 1.0);
  EXPECT_DOUBLE_EQ(schedule.LearningRate(100), 1.0);
  EXPECT_NEAR(schedule.LearningRate(105), 0.75, 1e-12);
  EXPECT_NEAR(schedule.LearningRate(110), 0.5, 1e-12);
}

TEST(ScheduleTest, OneStepRunsAtThePeak) {
  EXPECT_DOUBLE_EQ(Schedule(plan::ScheduleType::kCosine, 3.0, 0, 0.1, 1).LearningRate(0), 3.0);
}

}  // namespace
}  // namespace ithaca::engine

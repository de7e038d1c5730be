#include "worker/engine/model/rope.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <numbers>

namespace ithaca::engine {
namespace {

TEST(RopeTest, FrequenciesFallFromOneByPowersOfTheta) {
  const plan::ModelConfig config = {.head_dim = 64, .rope_theta = 10000.0};
  const at::Tensor frequencies = RopeInverseFrequencies(config);
  ASSERT_EQ(frequencies.numel(), 32);
  for (int i = 0; i < 32; ++i) {
    EXPECT_NEAR(frequencies[i].item<double>() * std::pow(10000.0, 2.0 * i / 64), 1.0, 1e-6) << i;
  }
}

TEST(RopeTest, Llama3ScalingFollowsThePublishedFormula) {
  plan::ModelConfig config = {.head_dim = 128, .rope_theta = 500000.0};
  config.rope_scaling = {.type = plan::RopeType::kLlama3,
                         .factor = 8.0,
                         .original_positions = 8192,
                         .low_freq_factor = 1.0,
                         .high_freq_factor = 4.0};
  const at::Tensor frequencies = RopeInverseFrequencies(config);
  int kept = 0;
  int divided = 0;
  int blended = 0;
  for (int i = 0; i < 64; ++i) {
    const double plain = std::pow(500000.0, -2.0 * i / 128);
    const double wavelength = 2 * std::numbers::pi / plain;
    double expected = plain;
    if (wavelength > 8192.0 / 1.0) {
      expected = plain / 8.0;
      ++divided;
    } else if (wavelength >= 8192.0 / 4.0) {
      const double smooth = (8192.0 / wavelength - 1.0) / (4.0 - 1.0);
      expected = (1 - smooth) * plain / 8.0 + smooth * plain;
      ++blended;
    } else {
      ++kept;
    }
    EXPECT_NEAR(frequencies[i].item<double>() / expected, 1.0, 2e-6) << i;
  }
  EXPECT_GT(kept, 0);
  EXPECT_GT(divided, 0);
  EXPECT_GT(blended, 0);
}

TEST(RopeTest, LinearScalingDividesEveryFrequency) {
  plan::ModelConfig config = {.head_dim = 64, .rope_theta = 10000.0};
  const at::Tensor plain = RopeInverseFrequencies(config);
  config.rope_scaling = {.type = plan::RopeType::kLinear, .factor = 4.0};
  EXPECT_TRUE(at::equal(RopeInverseFrequencies(config) * 4.0, plain));
}

TEST(RopeTest, YarnKeepsFastDimensionsAndDividesSlowOnes) {
  plan::ModelConfig config = {.head_dim = 128, .rope_theta = 1e6};
  const at::Tensor plain = RopeInverseFrequencies(config);
  config.rope_scaling = {.type = plan::RopeType::kYarn, .factor = 4.0, .original_positions = 32768};
  const at::Tensor scaled = RopeInverseFrequencies(config);
  for (int i = 0; i < 64; ++i) {
    const double turns = 32768 * plain[i].item<double>() / (2 * std::numbers::pi);
    const double ratio = plain[i].item<double>() / scaled[i].item<double>();
    if (turns > 40) {
      EXPECT_NEAR(ratio, 1.0, 1e-6) << i;
    } else if (turns < 0.8) {
      EXPECT_NEAR(ratio, 4.0, 1e-5) << i;
    }
    EXPECT_GE(ratio, 1.0 - 1e-6) << i;
    EXPECT_LE(ratio, 4.0 + 1e-5) << i;
  }
}

TEST(RopeTest, YarnScalesCosineAndSine) {
  const RopeTable table = MakeRopeTable(torch::tensor({1.0f}), torch::tensor({0, 5}, torch::kLong), 1.25);
  EXPECT_NEAR(table.cos_SD2[0][0].item<double>(), 1.25, 1e-6);
  EXPECT_NEAR(table.sin_SD2[1][0].item<double>(), 1.25 * std::sin(5.0), 1e-6);
}

TEST(RopeTest, TableHoldsCosineAndSineOfPositionTimesFrequency) {
  const at::Tensor positions = torch::tensor({0, 5, 0, 1000}, torch::kLong);
  const at::Tensor frequencies = torch::tensor({1.0f, 0.25f});
  const RopeTable table = MakeRopeTable(frequencies, positions);
  EXPECT_NEAR(table.cos_SD2[1][0].item<double>(), std::cos(5.0), 1e-6);
  EXPECT_NEAR(table.sin_SD2[3][1].item<double>(), std::sin(250.0), 1e-6);
  EXPECT_EQ(table.sin_SD2[2][0].item<double>(), 0.0);
}

}  // namespace
}  // namespace ithaca::engine

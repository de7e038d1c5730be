#include "worker/engine/optim/adamw.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "worker/engine/optim/gradient_norm.h"

namespace ithaca::engine {
namespace {

constexpr int64_t kVectors = 40;
constexpr int64_t kElements = 1000;
const AdamWOptions kOptions = {.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 0.1};

double RelativeError(const at::Tensor& got, const at::Tensor& want) {
  return ((got.to(at::kDouble) - want.to(at::kDouble)).norm() / want.to(at::kDouble).norm()).item<double>();
}

TEST(AdamWTest, TenStepsEqualTorchAdamWWithDecayOnMatricesOnly) {
  torch::manual_seed(5);
  const at::Tensor start = torch::randn({kElements});
  at::Tensor weights = start.clone();
  at::Tensor gradients = torch::zeros({kElements});
  AdamW optimizer(weights, gradients, kVectors, kOptions);

  at::Tensor vectors = start.narrow(0, 0, kVectors).to(at::kDouble).requires_grad_(true);
  at::Tensor matrices = start.narrow(0, kVectors, kElements - kVectors).to(at::kDouble).requires_grad_(true);
  const auto options = [](double decay) {
    return torch::optim::AdamWOptions(1e-2).betas({0.9, 0.95}).eps(1e-8).weight_decay(decay);
  };
  torch::optim::AdamW reference_vectors({vectors}, options(0.0));
  torch::optim::AdamW reference_matrices({matrices}, options(0.1));

  for (int step = 0; step < 10; ++step) {
    const at::Tensor gradient = torch::randn({kElements});
    gradients.copy_(gradient);
    optimizer.Step(1e-2, torch::full({1}, 0.5));
    EXPECT_EQ(gradients.abs().sum().item<double>(), 0.0);
    const at::Tensor scaled = gradient.to(at::kDouble) * 0.5;
    vectors.mutable_grad() = scaled.narrow(0, 0, kVectors).clone();
    matrices.mutable_grad() = scaled.narrow(0, kVectors, kElements - kVectors).clone();
    reference_vectors.step();
    reference_matrices.step();
  }
  const at::Tensor update = torch::cat({vectors, matrices}).detach() - start;
  EXPECT_LT(RelativeError(weights - start, update), 1e-5);
  EXPECT_EQ(optimizer.steps(), 10);
}

TEST(AdamWTest, Bfloat16WeightsFollowAnFp32MasterThatKeepsSmallUpdates) {
  at::Tensor weights = torch::ones({kElements}, torch::kBFloat16);
  at::Tensor gradients = torch::zeros({kElements});
  AdamW optimizer(weights, gradients, kElements, {.weight_decay = 0.0});
  for (int step = 0; step < 100; ++step) {
    gradients.fill_(1.0);
    optimizer.Step(1e-4, torch::ones({1}));  // far below bf16's spacing at 1, 0.0078 - of which a hundred is more
  }
  EXPECT_NEAR(optimizer.master().mean().item<double>(), 0.99, 1e-4);
  EXPECT_NEAR(weights.to(at::kFloat).mean().item<double>(), 0.99, 0.002);
}

TEST(GradientNormTest, SumOfSquaresIsExactBeyondFp32) {
  torch::manual_seed(6);
  const at::Tensor values = torch::randn({300'001});
  const double expected = values.to(at::kDouble).square().sum().item<double>();
  EXPECT_NEAR(SumOfSquares(values).item<double>() / expected, 1.0, 1e-13);
}

TEST(GradientNormTest, SumOfSquaresIsTheSameEveryTime) {
  const at::Tensor values = torch::randn({300'001});
  const double first = SumOfSquares(values).item<double>();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(SumOfSquares(values).item<double>(), first);
}

}  // namespace
}  // namespace ithaca::engine

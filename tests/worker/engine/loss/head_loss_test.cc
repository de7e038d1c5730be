#include "worker/engine/loss/head_loss.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace ithaca::engine {
namespace {

double RelativeError(const at::Tensor& got, const at::Tensor& want) {
  return ((got.to(at::kDouble) - want.to(at::kDouble)).norm() / want.to(at::kDouble).norm()).item<double>();
}

struct Case {
  at::ScalarType dtype;
  int64_t chunk;
};

class HeadLossTest : public testing::TestWithParam<Case> {
 protected:
  static constexpr int64_t kTokens = 21, kWidth = 16, kVocab = 3001;

  HeadLossTest() : workspace_(at::kCPU) {
    torch::manual_seed(3);
    hidden_ = (torch::randn({kTokens, kWidth}) * 2).to(GetParam().dtype);
    weight_ = torch::randn({kVocab, kWidth}).to(GetParam().dtype);
    labels_ = torch::randint(kVocab, {kTokens}, torch::kLong);
    labels_.narrow(0, 4, 3).fill_(-100);
    gradient_ = torch::zeros({kVocab, kWidth});
  }

  Workspace workspace_;
  at::Tensor hidden_, weight_, labels_, gradient_;
};

TEST_P(HeadLossTest, LossAndGradientsEqualCrossEntropyInDouble) {
  HeadLoss head(weight_, gradient_, GetParam().chunk, workspace_);
  const double scale = 1.0 / 50;
  const at::Tensor d_hidden = head.ForwardBackward(hidden_, labels_, scale).clone();

  const at::Tensor hidden64 = hidden_.to(at::kDouble).requires_grad_(true);
  const at::Tensor weight64 = weight_.to(at::kDouble).requires_grad_(true);
  const at::Tensor loss64 =
      torch::nn::functional::cross_entropy(
          hidden64.matmul(weight64.t()), labels_,
          torch::nn::functional::CrossEntropyFuncOptions().ignore_index(-100).reduction(torch::kSum)) *
      scale;
  loss64.backward();
  const bool fp32 = GetParam().dtype == at::kFloat;
  EXPECT_NEAR(head.loss().item<double>() / loss64.item<double>(), 1.0, fp32 ? 5e-7 : 5e-3);
  EXPECT_LT(RelativeError(d_hidden, hidden64.grad()), fp32 ? 2e-6 : 2e-2);
  EXPECT_LT(RelativeError(gradient_, weight64.grad()), fp32 ? 2e-6 : 2e-2);

  head.Reset();
  head.Forward(hidden_, labels_, scale);
  EXPECT_NEAR(head.loss().item<double>() / loss64.item<double>(), 1.0, fp32 ? 5e-7 : 5e-3);
}

TEST_P(HeadLossTest, AShardWithoutTargetsAddsExactlyNothing) {
  HeadLoss head(weight_, gradient_, GetParam().chunk, workspace_);
  const at::Tensor d_hidden = head.ForwardBackward(hidden_, torch::full_like(labels_, -100), 0.1);
  EXPECT_EQ(head.loss().item<double>(), 0.0);
  EXPECT_EQ(d_hidden.abs().sum().item<double>(), 0.0);
  EXPECT_EQ(gradient_.abs().sum().item<double>(), 0.0);
}

TEST_P(HeadLossTest, LogitsOfHundredsStayFinite) {
  HeadLoss head(weight_ * 100, gradient_, GetParam().chunk, workspace_);
  const at::Tensor d_hidden = head.ForwardBackward(hidden_, labels_, 1.0);
  EXPECT_TRUE(std::isfinite(head.loss().item<double>()));
  EXPECT_TRUE(d_hidden.isfinite().all().item<bool>());
  EXPECT_GT(d_hidden.abs().sum().item<double>(), 0.0);
}

TEST_P(HeadLossTest, CallsAddUp) {
  HeadLoss head(weight_, gradient_, GetParam().chunk, workspace_);
  head.ForwardBackward(hidden_, labels_, 0.1);
  const double once = head.loss().item<double>();
  const at::Tensor gradient_once = gradient_.clone();
  head.ForwardBackward(hidden_, labels_, 0.1);
  EXPECT_NEAR(head.loss().item<double>(), 2 * once, 1e-12);
  EXPECT_LT(RelativeError(gradient_, gradient_once * 2), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(All, HeadLossTest,
                         testing::Values(Case{at::kFloat, 1}, Case{at::kFloat, 8}, Case{at::kFloat, 64},
                                         Case{at::kBFloat16, 8}),
                         [](const auto& info) {
                           return std::string(c10::toString(info.param.dtype)) + "Chunk" +
                                  std::to_string(info.param.chunk);
                         });

}  // namespace
}  // namespace ithaca::engine

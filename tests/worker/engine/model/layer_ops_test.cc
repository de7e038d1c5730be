#include "worker/engine/model/layer_ops.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace ithaca::engine {
namespace {

double RelativeError(const at::Tensor& got, const at::Tensor& want) {
  return ((got.to(at::kDouble) - want.to(at::kDouble)).norm() / want.to(at::kDouble).norm()).item<double>();
}

at::Tensor Double(const at::Tensor& tensor) { return tensor.to(at::kDouble).detach().requires_grad_(true); }

at::Tensor ReferenceRmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return weight * x * torch::rsqrt(x.square().mean(-1, true) + eps);
}

class LayerOpsTest : public testing::TestWithParam<at::ScalarType> {
 protected:
  LayerOpsTest() { torch::manual_seed(1); }
  at::Tensor Random(at::IntArrayRef shape) const { return torch::randn(shape).to(GetParam()); }
  double tolerance() const { return GetParam() == at::kFloat ? 1e-6 : 1e-2; }
};

TEST_P(LayerOpsTest, RmsNormAndItsGradientEqualAutogradInDouble) {
  const at::Tensor x = Random({37, 72});
  const at::Tensor weight = Random({72});
  const at::Tensor d_out = Random({37, 72});
  at::Tensor out = torch::empty_like(x);
  at::Tensor rstd = torch::empty({37});
  RmsNorm(x, weight, 1e-5, out, rstd);
  at::Tensor d_x = Random({37, 72});
  const at::Tensor d_x_before = d_x.clone();
  at::Tensor d_weight = torch::ones({72});
  RmsNormBackward(d_out, x, weight, rstd, d_x, d_weight);

  const at::Tensor x64 = Double(x);
  const at::Tensor weight64 = Double(weight);
  const at::Tensor out64 = ReferenceRmsNorm(x64, weight64, 1e-5);
  out64.backward(d_out.to(at::kDouble));
  EXPECT_LT(RelativeError(out, out64), tolerance());
  EXPECT_LT(RelativeError(d_x, x64.grad() + d_x_before.to(at::kDouble)), tolerance());
  EXPECT_LT(RelativeError(d_weight, weight64.grad() + 1), tolerance());
}

TEST_P(LayerOpsTest, RmsNormOfHeadsWithStridesEqualsAutograd) {
  const at::Tensor packed = Random({9, 5, 16});
  const at::Tensor weight = Random({16});
  at::Tensor out = torch::zeros_like(packed);
  at::Tensor rstd = torch::empty({9, 3});
  at::Tensor out_heads = out.narrow(1, 0, 3);
  RmsNorm(packed.narrow(1, 0, 3), weight, 1e-6, out_heads, rstd);
  const at::Tensor expected = ReferenceRmsNorm(packed.to(at::kDouble), weight.to(at::kDouble), 1e-6);
  EXPECT_LT(RelativeError(out.narrow(1, 0, 3), expected.narrow(1, 0, 3)), tolerance());
  EXPECT_EQ(out.narrow(1, 3, 2).abs().sum().item<double>(), 0.0);
}

TEST_P(LayerOpsTest, RopeRotatesTheFirstHeadsAndItsInverseTurnsThemBack) {
  const at::Tensor original = Random({33, 5, 16});
  at::Tensor qkv = original.clone();
  const at::Tensor angles = torch::rand({33, 8}) * 6;
  const RopeTable table = {angles.cos(), angles.sin()};
  ApplyRope(qkv, 4, table, /*inverse=*/false);

  const at::Tensor x = original.to(at::kDouble);
  const at::Tensor a = x.narrow(2, 0, 8);
  const at::Tensor b = x.narrow(2, 8, 8);
  const at::Tensor cos = angles.to(at::kDouble).cos().unsqueeze(1);
  const at::Tensor sin = angles.to(at::kDouble).sin().unsqueeze(1);
  const at::Tensor expected = torch::cat({a * cos - b * sin, b * cos + a * sin}, 2);
  EXPECT_LT(RelativeError(qkv.narrow(1, 0, 4), expected.narrow(1, 0, 4)), tolerance());
  EXPECT_TRUE(qkv.select(1, 4).equal(original.select(1, 4)));

  ApplyRope(qkv, 4, table, /*inverse=*/true);
  EXPECT_LT(RelativeError(qkv, original), tolerance());
}

TEST_P(LayerOpsTest, SwiGluAndItsGradientEqualAutogradInDouble) {
  at::Tensor gate_up = Random({35, 48}) * 4;
  gate_up[0][0] = 100.0;  // far into both tails of the sigmoid
  gate_up[0][1] = -100.0;
  const at::Tensor d_out = Random({35, 24});
  at::Tensor out = torch::empty_like(d_out);
  SwiGlu(gate_up, out);

  const at::Tensor in64 = Double(gate_up);
  const at::Tensor out64 = torch::silu(in64.narrow(1, 0, 24)) * in64.narrow(1, 24, 24);
  out64.backward(d_out.to(at::kDouble));
  EXPECT_LT(RelativeError(out, out64), tolerance());

  at::Tensor activated = d_out.clone();
  SwiGluBackward(gate_up, activated);
  EXPECT_LT(RelativeError(activated, out64), tolerance());
  EXPECT_LT(RelativeError(gate_up, in64.grad()), tolerance());
}

INSTANTIATE_TEST_SUITE_P(FusedAndAten, LayerOpsTest, testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

}  // namespace
}  // namespace ithaca::engine

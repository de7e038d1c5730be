#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <string>
#include <vector>

#include "worker/engine/attention/attention_backend.h"
#include "worker/engine/attention/device_moment.h"
#include "worker/engine/attention/ulysses_attention.h"
#include "worker/engine/comm/solo.h"
#include "worker/engine/loss/head_loss.h"
#include "worker/engine/model/layer_ops.h"
#include "worker/engine/model/linear.h"
#include "worker/engine/model/rope.h"
#include "worker/engine/optim/adamw.h"
#include "worker/engine/optim/gradient_norm.h"

// Each operation of the engine on CUDA, in fp32 and bf16, beside the same in fp32 on the CPU. bf16 inputs are rounded
// before both, so that only the arithmetic differs.

namespace ithaca::engine {
namespace {

class CudaPathsTest : public testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "no CUDA device, or a build without CUDA";
    at::globalContext().setAllowTF32CuBLAS(false);
    torch::manual_seed(11);
  }

  bool fp32() const { return GetParam() == at::kFloat; }
  // Relative error of one operation: rounding of fp32 sums, or of a bf16 result.
  double Tolerance() const { return fp32() ? 1e-5 : 1e-2; }

  // Random values that the tested dtype can hold, as fp32 on the CPU.
  at::Tensor Random(at::IntArrayRef shape, double deviation = 1.0) const {
    return (torch::randn(shape) * deviation).to(GetParam()).to(at::kFloat);
  }
  at::Tensor OnGpu(const at::Tensor& tensor) const { return tensor.to(at::kCUDA).to(GetParam()); }
  at::Tensor AsFloatOnGpu(const at::Tensor& tensor) const { return tensor.to(at::kCUDA); }

  void ExpectNear(const at::Tensor& gpu, const at::Tensor& cpu, const std::string& what, double factor = 1.0) const {
    const at::Tensor want = cpu.to(at::kDouble);
    const double error = ((gpu.cpu().to(at::kDouble) - want).norm() / want.norm()).item<double>();
    EXPECT_LT(error, factor * Tolerance()) << what;
  }
};

TEST_P(CudaPathsTest, LinearForwardAndGradients) {
  const at::Tensor x = Random({96, 64}), weight = Random({80, 64}, 0.1), d_out = Random({96, 80});
  at::Tensor out = torch::empty({96, 80}), d_x = torch::empty({96, 64}), gradient = torch::ones({80, 64});
  at::Tensor gpu_out = OnGpu(out), gpu_d_x = OnGpu(d_x), gpu_gradient = AsFloatOnGpu(gradient);
  Linear(x, weight, out);
  Linear(OnGpu(x), OnGpu(weight), gpu_out);
  ExpectNear(gpu_out, out, "x W^T");
  LinearInputGradient(d_out, weight, d_x);
  LinearInputGradient(OnGpu(d_out), OnGpu(weight), gpu_d_x);
  ExpectNear(gpu_d_x, d_x, "gradient by x");
  AddLinearWeightGradient(d_out, x, gradient);
  AddLinearWeightGradient(OnGpu(d_out), OnGpu(x), gpu_gradient);
  ExpectNear(gpu_gradient, gradient, "gradient by W");
  const at::Tensor residual = Random({96, 80});
  LinearAdd(residual, x, weight, out);
  LinearAdd(OnGpu(residual), OnGpu(x), OnGpu(weight), gpu_out);
  ExpectNear(gpu_out, out, "residual + x W^T");
}

TEST_P(CudaPathsTest, RmsNormForwardAndBackward) {
  const at::Tensor x = Random({50, 64}), weight = Random({64}), d_out = Random({50, 64});
  at::Tensor out = torch::empty_like(x), rstd = torch::empty({50});
  at::Tensor gpu_out = OnGpu(out), gpu_rstd = AsFloatOnGpu(rstd);
  RmsNorm(x, weight, 1e-5, out, rstd);
  RmsNorm(OnGpu(x), OnGpu(weight), 1e-5, gpu_out, gpu_rstd);
  ExpectNear(gpu_out, out, "output");
  at::Tensor d_x = torch::zeros_like(x), d_weight = torch::zeros({64});
  at::Tensor gpu_d_x = OnGpu(d_x), gpu_d_weight = AsFloatOnGpu(d_weight);
  RmsNormBackward(d_out, x, weight, rstd, d_x, d_weight);
  RmsNormBackward(OnGpu(d_out), OnGpu(x), OnGpu(weight), gpu_rstd, gpu_d_x, gpu_d_weight);
  ExpectNear(gpu_d_x, d_x, "gradient by x");
  ExpectNear(gpu_d_weight, d_weight, "gradient by the weight");
}

TEST_P(CudaPathsTest, RopeAndItsInverse) {
  plan::ModelConfig model;
  model.head_dim = 32;
  const at::Tensor frequencies = RopeInverseFrequencies(model);
  const RopeTable cpu = MakeRopeTable(frequencies, torch::arange(40));
  const RopeTable gpu = MakeRopeTable(frequencies.to(at::kCUDA), torch::arange(40).to(at::kCUDA));
  at::Tensor qkv = Random({40, 5, 32});
  at::Tensor gpu_qkv = OnGpu(qkv);
  for (const bool inverse : {false, true}) {
    ApplyRope(qkv, 4, cpu, inverse);
    ApplyRope(gpu_qkv, 4, gpu, inverse);
    ExpectNear(gpu_qkv, qkv, inverse ? "inverse" : "rotated");
  }
}

TEST_P(CudaPathsTest, SwiGluForwardAndBackward) {
  at::Tensor gate_up = Random({30, 2 * 48}), d_out = Random({30, 48}), out = torch::empty({30, 48});
  at::Tensor gpu_gate_up = OnGpu(gate_up), gpu_d_out = OnGpu(d_out), gpu_out = OnGpu(out);
  SwiGlu(gate_up, out);
  SwiGlu(gpu_gate_up, gpu_out);
  ExpectNear(gpu_out, out, "output");
  SwiGluBackward(gate_up, d_out);
  SwiGluBackward(gpu_gate_up, gpu_d_out);
  ExpectNear(gpu_gate_up, gate_up, "gradient of gate and up", 2);
  ExpectNear(gpu_d_out, d_out, "activated", 2);
}

TEST_P(CudaPathsTest, HeadAndLossWithIgnoredLabelsInUnevenChunks) {
  const at::Tensor hidden = Random({37, 32}), weight = Random({1003, 32}, 0.3);
  at::Tensor labels = torch::randint(1003, {37}, at::kLong);
  labels.narrow(0, 3, 5).fill_(-100);
  at::Tensor gradient = torch::zeros({1003, 32}), gpu_gradient = AsFloatOnGpu(gradient);
  Workspace workspace(at::kCPU), gpu_workspace(at::Device(at::kCUDA, 0));
  HeadLoss head(weight, gradient, 16, workspace);
  HeadLoss gpu_head(OnGpu(weight), gpu_gradient, 16, gpu_workspace);
  const at::Tensor d_hidden = head.ForwardBackward(hidden, labels, 1.0 / 32);
  const at::Tensor gpu_d_hidden = gpu_head.ForwardBackward(OnGpu(hidden), labels.to(at::kCUDA), 1.0 / 32);
  ExpectNear(gpu_head.loss(), head.loss(), "loss", fp32() ? 0.1 : 1.0);
  ExpectNear(gpu_d_hidden, d_hidden, "gradient by the hidden states", 2);
  ExpectNear(gpu_gradient, gradient, "gradient by the head", 2);
  const double loss = gpu_head.loss().item<double>();
  gpu_head.Reset();
  gpu_head.Forward(OnGpu(hidden), labels.to(at::kCUDA), 1.0 / 32);
  EXPECT_DOUBLE_EQ(gpu_head.loss().item<double>(), loss);
}

TEST_P(CudaPathsTest, AdamWOverTenSteps) {
  const at::Tensor start = Random({1000});
  at::Tensor weights = start.clone(), gradients = torch::zeros({1000});
  at::Tensor gpu_weights = OnGpu(start), gpu_gradients = AsFloatOnGpu(gradients);
  const AdamWOptions options{.weight_decay = 0.1};
  AdamW cpu(weights, gradients, 40, options), gpu(gpu_weights, gpu_gradients, 40, options);
  for (int step = 0; step < 10; ++step) {
    const at::Tensor gradient = torch::randn({1000});
    gradients.copy_(gradient);
    gpu_gradients.copy_(gradient);
    ExpectNear(SumOfSquares(gpu_gradients), SumOfSquares(gradients), "gradient norm");
    cpu.Step(1e-2, torch::full({1}, 0.5));
    gpu.Step(1e-2, torch::full({1}, 0.5).to(at::kCUDA));
    EXPECT_EQ(gpu_gradients.abs().sum().item<double>(), 0.0);
  }
  const at::Tensor updated = gpu.master().defined() ? gpu.master() : gpu_weights;
  EXPECT_LT(((updated.cpu() - weights).norm() / (weights - start).norm()).item<double>(), 1e-5) << "update";
  ExpectNear(gpu_weights, weights, "weights");
}

struct AttentionCase {
  std::string backend;
  int query_heads, kv_heads, head_dim;
};

// `qkv`, `d_out` -> out, d_qkv of packed documents, by one backend.
std::pair<at::Tensor, at::Tensor> Attend(const AttentionCase& c, const std::string& backend, const at::Tensor& qkv,
                                         const at::Tensor& d_out, const AttentionMask& mask) {
  const auto solo = MakeSoloCommunicator();
  UlyssesAttention attention(plan::HeadPlan(c.query_heads, c.kv_heads, 1), c.head_dim, *solo, backend);
  AttentionState state;
  const at::Tensor out = attention.Forward(qkv, mask, /*keep_qkv=*/false, state).clone();
  return {out, attention.Backward(d_out, qkv, mask, state)};
}

TEST_P(CudaPathsTest, AttentionBackendsOverPackedDocuments) {
  const DocumentStarts documents = {0, 70, 71, 200, 256};
  std::vector<std::string> backends = {"reference", "cuda_efficient", "auto"};
  if (!fp32()) backends.insert(backends.end(), {"cudnn", "cuda_flash"});
  for (const AttentionCase& shape :
       {AttentionCase{"", 8, 2, 64}, AttentionCase{"", 9, 3, 64}, AttentionCase{"", 4, 4, 128}}) {
    const at::Tensor qkv = Random({256, shape.query_heads + 2 * shape.kv_heads, shape.head_dim});
    const at::Tensor d_out = Random({256, shape.query_heads, shape.head_dim});
    const auto [out, d_qkv] = Attend(shape, "reference", qkv, d_out, documents);
    for (const std::string& backend : backends) {
      const std::string what = backend + " with " + std::to_string(shape.query_heads) + " heads";
      const auto [gpu_out, gpu_d_qkv] = Attend(shape, backend, OnGpu(qkv), OnGpu(d_out), documents);
      ExpectNear(gpu_out, out, what + ": output");
      ExpectNear(gpu_d_qkv, d_qkv, what + ": gradients", 2);
    }
  }
}

TEST_P(CudaPathsTest, WindowsOverPackedDocuments) {
  const AttentionCase c{"", 9, 3, 64};
  const at::Tensor qkv = Random({256, 15, 64}), d_out = Random({256, 9, 64});
  const DocumentStarts documents = {0, 70, 71, 200, 256};
  const auto [out, d_qkv] = Attend(c, "reference", qkv, d_out, {documents, 33});
  for (const std::string& backend : std::vector<std::string>{"reference", "cuda_flash", "auto"}) {
    if (fp32() && backend != "reference") {
      EXPECT_ANY_THROW(Attend(c, backend, OnGpu(qkv), OnGpu(d_out), {documents, 33})) << backend;
      continue;
    }
    const auto [gpu_out, gpu_d_qkv] = Attend(c, backend, OnGpu(qkv), OnGpu(d_out), {documents, 33});
    ExpectNear(gpu_out, out, backend + ": output");
    ExpectNear(gpu_d_qkv, d_qkv, backend + ": gradients", 2);
  }
}

// What "auto" takes depends on the documents: one, few, and too many for cudnn; one backend object meets them all.
TEST_P(CudaPathsTest, AutoAttentionOverAnyDocuments) {
  const AttentionCase c{"", 4, 2, 64};
  const at::Tensor qkv = Random({256, 8, 64}), d_out = Random({256, 4, 64});
  const auto solo = MakeSoloCommunicator();
  UlyssesAttention attention(plan::HeadPlan(4, 2, 1), 64, *solo, "auto");
  const std::vector<DocumentStarts> sequences = {
      {0, 256}, {0, 100, 100, 256}, {0, 1, 3, 6, 10, 15, 256}, {0, 33, 256}, {0, 256}};
  for (const DocumentStarts& documents : sequences) {
    const std::string what = std::to_string(documents.size() - 1) + " documents";
    const auto [out, d_qkv] = Attend(c, "reference", qkv, d_out, documents);
    AttentionState state;
    ExpectNear(attention.Forward(OnGpu(qkv), documents, /*keep_qkv=*/true, state), out, what + ": output");
    ExpectNear(attention.Backward(OnGpu(d_out), at::Tensor(), documents, state), d_qkv, what + ": gradients", 2);
  }
}

// The log-sum-exp every backend keeps is the same, whatever its kernel's layout.
TEST_P(CudaPathsTest, LogSumExpOfEveryBackend) {
  const DocumentStarts documents = {0, 70, 71, 200, 256};
  const HeadGroups groups = LocalHeadGroups(plan::HeadPlan(6, 2, 1), 0);
  const at::Tensor qkv = Random({256, 10, 64});
  at::Tensor out = torch::empty({256, 6, 64}), lse = torch::empty({6, 256});
  MakeReferenceAttention()->Forward(QkvHeads::Of(qkv, 6, 2), groups, documents, 0.125, out, lse);
  const at::Tensor gpu_qkv = OnGpu(qkv);
  for (const std::string backend : {"cuda_efficient", "cudnn", "cuda_flash"}) {
    if (fp32() && backend != "cuda_efficient") continue;
    at::Tensor gpu_out = OnGpu(out), gpu_lse = AsFloatOnGpu(torch::full({6, 256}, 77.0));
    MakeAttentionBackend(backend, gpu_out, groups)
        ->Forward(QkvHeads::Of(gpu_qkv, 6, 2), groups, documents, 0.125, gpu_out, gpu_lse);
    ExpectNear(gpu_lse, lse, backend, fp32() ? 1.0 : 0.1);
  }
}

// Events: the second moment is behind the work, though nothing waited for it.
TEST_P(CudaPathsTest, DeviceMomentsMeasureTheDevicesWork) {
  const at::Device device(at::kCUDA, 0);
  const at::Tensor a = OnGpu(Random({4096, 4096}));
  a.matmul(a);
  torch::cuda::synchronize();
  const DeviceMoment begin(device);
  for (int i = 0; i < 4; ++i) a.matmul(a);
  const DeviceMoment half(device);
  for (int i = 0; i < 4; ++i) a.matmul(a);
  const DeviceMoment end(device);
  end.Wait();
  EXPECT_GT(half.SecondsSince(begin), 0);
  EXPECT_GT(end.SecondsSince(half), 0);
  EXPECT_NEAR(end.SecondsSince(begin), half.SecondsSince(begin) + end.SecondsSince(half), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(DTypes, CudaPathsTest, testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

}  // namespace
}  // namespace ithaca::engine

#include "worker/engine/loss/head_loss.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "worker/engine/loss/cross_entropy_cuda.h"
#include "worker/engine/loss/cross_entropy_rows.h"
#include "worker/engine/model/linear.h"

namespace ithaca::engine {
namespace {

// Every row is one task's: the sum over rows is taken in row order, whatever the threads do.
double CrossEntropyOnCpu(at::Tensor& logits_CV, const at::Tensor& labels_C, double scale) {
  const int64_t rows = logits_CV.size(0);
  const int64_t vocab = logits_CV.size(1);
  std::vector<double> loss(rows, 0.0);
  at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      loss[row] = cpu::CrossEntropyRows(logits_CV.mutable_data_ptr<float>() + row * vocab,
                                        labels_C.const_data_ptr<int64_t>() + row, 1, vocab, static_cast<float>(scale));
    }
  });
  double sum = 0;
  for (const double row : loss) sum += row;
  return sum;
}

}  // namespace

HeadLoss::HeadLoss(at::Tensor weight_VE, at::Tensor gradient_VE, int64_t chunk, Workspace& workspace)
    : weight_VE_(std::move(weight_VE)),
      gradient_VE_(std::move(gradient_VE)),
      chunk_(chunk),
      workspace_(workspace),
      loss_(at::zeros({1}, weight_VE_.options().dtype(at::kDouble))) {}

at::Tensor HeadLoss::ForwardBackward(const at::Tensor& hidden_SE, const at::Tensor& labels_S, double scale) {
  const int64_t tokens = hidden_SE.size(0);
  at::Tensor d_hidden_SE = workspace_.Get("d_normalized", hidden_SE.sizes(), hidden_SE.scalar_type());
  for (int64_t begin = 0; begin < tokens; begin += chunk_) {
    const int64_t count = std::min(chunk_, tokens - begin);
    const at::Tensor hidden_CE = hidden_SE.narrow(0, begin, count);
    at::Tensor logits_CV = workspace_.Get("logits", {count, weight_VE_.size(0)}, hidden_SE.scalar_type());
    Linear(hidden_CE, weight_VE_, logits_CV);
    CrossEntropy(logits_CV, labels_S.narrow(0, begin, count), scale, scale);
    at::Tensor d_hidden_CE = d_hidden_SE.narrow(0, begin, count);
    LinearInputGradient(logits_CV, weight_VE_, d_hidden_CE);
    AddLinearWeightGradient(logits_CV, hidden_CE, gradient_VE_);
  }
  return d_hidden_SE;
}

void HeadLoss::Forward(const at::Tensor& hidden_SE, const at::Tensor& labels_S, double scale) {
  const int64_t tokens = hidden_SE.size(0);
  for (int64_t begin = 0; begin < tokens; begin += chunk_) {
    const int64_t count = std::min(chunk_, tokens - begin);
    at::Tensor logits_CV = workspace_.Get("logits", {count, weight_VE_.size(0)}, hidden_SE.scalar_type());
    Linear(hidden_SE.narrow(0, begin, count), weight_VE_, logits_CV);
    CrossEntropy(logits_CV, labels_S.narrow(0, begin, count), scale, 0.0);
  }
}

void HeadLoss::CrossEntropy(at::Tensor& logits_CV, const at::Tensor& labels_C, double loss_scale,
                            double gradient_scale) {
  if (logits_CV.is_cpu() && logits_CV.scalar_type() == at::kFloat) {
    loss_.add_(CrossEntropyOnCpu(logits_CV, labels_C, gradient_scale) * loss_scale);
    return;
  }
  if (logits_CV.is_cuda()) {
    loss_.add_(CrossEntropyOnCuda(logits_CV, labels_C, gradient_scale), loss_scale);
    return;
  }
  const at::Tensor is_target_C = labels_C.ge(0);
  const at::Tensor label_C1 = labels_C.clamp_min(0).unsqueeze(1);
  at::Tensor logits = logits_CV.to(at::kFloat);  // a copy unless it is fp32 already
  const at::Tensor lse_C1 = at::logsumexp(logits, 1, /*keepdim=*/true);
  const at::Tensor nll_C = (lse_C1 - logits.gather(1, label_C1)).squeeze(1).to(at::kDouble);
  loss_.add_((nll_C * is_target_C).sum(), loss_scale);
  if (gradient_scale == 0) return;
  logits.sub_(lse_C1).exp_();
  logits.scatter_add_(1, label_C1, at::full_like(lse_C1, -1.0));
  logits_CV.copy_(logits.mul_(is_target_C.unsqueeze(1).to(at::kFloat) * gradient_scale));
}

}  // namespace ithaca::engine

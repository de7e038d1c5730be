#include "worker/engine/optim/adamw.h"

#include <ATen/ATen.h>

#include <optional>
#include <utility>
#include <vector>

namespace ithaca::engine {

AdamW::AdamW(at::Tensor weights, at::Tensor gradients, int64_t undecayed, AdamWOptions options)
    : weights_(std::move(weights)), gradients_(std::move(gradients)), undecayed_(undecayed), options_(options) {
  if (weights_.scalar_type() != at::kFloat) master_ = weights_.to(at::kFloat);
  exp_avg_ = at::zeros_like(gradients_);
  exp_avg_sq_ = at::zeros_like(gradients_);
}

void AdamW::Step(double learning_rate, const at::Tensor& gradient_scale) {
  ++steps_;
  at::Tensor& updated = master_.defined() ? master_ : weights_;
  const at::Tensor inverse_scale = gradient_scale.reciprocal();  // the fused kernel divides by it
  const at::Tensor step = at::full({}, static_cast<double>(steps_), gradients_.options());
  const auto update = [&](int64_t begin, int64_t count, double weight_decay) {
    if (count == 0) return;
    const auto range = [&](const at::Tensor& flat) { return std::vector<at::Tensor>{flat.narrow(0, begin, count)}; };
    at::_fused_adamw_(range(updated), range(gradients_), range(exp_avg_), range(exp_avg_sq_), {}, {step}, learning_rate,
                      options_.beta1, options_.beta2, weight_decay, options_.epsilon, /*amsgrad=*/false,
                      /*maximize=*/false, inverse_scale, /*found_inf=*/std::nullopt);
  };
  update(0, undecayed_, 0.0);
  update(undecayed_, updated.numel() - undecayed_, options_.weight_decay);
  if (master_.defined()) weights_.copy_(master_);
  gradients_.zero_();
}

void AdamW::CopyMasterFromWeights() {
  if (master_.defined()) master_.copy_(weights_);
}

}  // namespace ithaca::engine

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace ithaca::engine {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.0;
};

// AdamW (arXiv 1711.05101) over flat buffers, with fp32 state. bf16 weights have an fp32 master copy, which is what is
// updated. The first `undecayed` elements (vectors) take no weight decay. Owned by the trainer; `weights` and
// `gradients` are views it keeps; one thread.
class AdamW {
 public:
  AdamW(at::Tensor weights, at::Tensor gradients, int64_t undecayed, AdamWOptions options);

  // One update with gradients * gradient_scale, a fp32 [1] tensor on the device (clipping). The gradients are zero
  // afterwards.
  void Step(double learning_rate, const at::Tensor& gradient_scale);

  // The state, for checkpoints. `master` is undefined when weights are fp32.
  at::Tensor& master() { return master_; }
  at::Tensor& exp_avg() { return exp_avg_; }
  at::Tensor& exp_avg_sq() { return exp_avg_sq_; }
  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }

  // After weights were loaded: the master copy follows them.
  void CopyMasterFromWeights();

 private:
  at::Tensor weights_, gradients_;
  int64_t undecayed_;
  AdamWOptions options_;
  at::Tensor master_, exp_avg_, exp_avg_sq_;
  int64_t steps_ = 0;
};

}  // namespace ithaca::engine

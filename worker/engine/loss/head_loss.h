#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "worker/engine/memory/workspace.h"

// S tokens of this shard, C tokens of a chunk, E model width, V vocabulary.

namespace ithaca::engine {

// The output head and cross-entropy, `chunk` tokens at a time, so that no tensor of [S, V] exists. The gradient is
// written over the logits as soon as they are there: loss, gradient of the hidden states and of the head's weight come
// out of one pass. Accurate beyond fp32: sums over the vocabulary and the loss are taken in double. Owned by the
// trainer; one thread.
class HeadLoss {
 public:
  // weight_VE: the head (or the tied embedding); gradient_VE: its fp32 gradient, added to.
  HeadLoss(at::Tensor weight_VE, at::Tensor gradient_VE, int64_t chunk, Workspace& workspace);

  // Adds `scale` times the sum over this shard's targets of -log p(label) to loss(). scale: 1 / targets of the global
  // batch. Returns the gradient of hidden_SE, valid until the next call. labels_S < 0 are ignored; a shard without
  // targets adds zero and returns zeros.
  at::Tensor ForwardBackward(const at::Tensor& hidden_SE, const at::Tensor& labels_S, double scale);

  // The same sum, without any gradient.
  void Forward(const at::Tensor& hidden_SE, const at::Tensor& labels_S, double scale);

  // Sum since the last Reset: fp64 [1], on the device.
  at::Tensor& loss() { return loss_; }
  void Reset() { loss_.zero_(); }

 private:
  // logits_CV -> gradient, in place; adds to loss_. gradient_scale 0: the loss alone is wanted.
  void CrossEntropy(at::Tensor& logits_CV, const at::Tensor& labels_C, double loss_scale, double gradient_scale);

  at::Tensor weight_VE_, gradient_VE_;
  int64_t chunk_;
  Workspace& workspace_;
  at::Tensor loss_;
};

}  // namespace ithaca::engine

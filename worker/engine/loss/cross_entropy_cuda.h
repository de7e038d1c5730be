#pragma once

#include <ATen/core/Tensor.h>

namespace ithaca::engine {

// cross_entropy_cuda.cc, or no_cuda_cross_entropy.cc in a build without CUDA.

// Cross-entropy of rows of logits and its gradient, in place, in one kernel without intermediate tensors: logits_CV
// (fp32 or bf16, contiguous, on the device) become scale * (softmax - one hot of the label), or zero where labels_C
// (int64) is negative. With scale 0 the logits stay as they are. Returns the sum over labelled rows of
// log(sum exp) - logit[label]: fp64 [1], on the device. Asynchronous on the current stream; the same bits every time.
at::Tensor CrossEntropyOnCuda(at::Tensor& logits_CV, const at::Tensor& labels_C, double scale);

}  // namespace ithaca::engine

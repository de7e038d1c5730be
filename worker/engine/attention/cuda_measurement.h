#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "worker/engine/attention/attention_backend.h"

namespace ithaca::engine {

// The faster of cudnn and cuda_flash, by forward and backward of one document of up to 8192 tokens with the heads and
// dtype of `sample_THD`. The choice is kept for the process. A backend that refuses is out; throws EngineError if both
// refuse, and c10::OutOfMemoryError when there is no memory to measure in.
std::unique_ptr<AttentionBackend> FasterCudaAttention(const at::Tensor& sample_THD, const HeadGroups& groups);

}  // namespace ithaca::engine

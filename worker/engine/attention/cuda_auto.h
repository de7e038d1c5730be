#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "worker/engine/attention/attention_backend.h"

namespace ithaca::engine {

// "auto" on CUDA, for tensors like `sample` [T, hq, D]. fp32: cuda_efficient, as nothing else takes it. Else the faster
// of cudnn and cuda_flash (cuda_measurement.h). Throws EngineError if no backend takes the model.
std::unique_ptr<AttentionBackend> MakeCudaAutoAttention(const at::Tensor& sample_THD, const HeadGroups& groups);

}  // namespace ithaca::engine

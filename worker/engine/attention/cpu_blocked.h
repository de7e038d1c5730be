#pragma once

#include <memory>

#include "worker/engine/attention/attention_backend.h"
#include "worker/engine/attention/blocked_kernel.h"

namespace ithaca::engine {

// Blocked attention with a given instruction set, one of blocked::AvailableKernels().
std::unique_ptr<AttentionBackend> MakeCpuBlockedAttention(const blocked::Kernels& kernels);

}  // namespace ithaca::engine

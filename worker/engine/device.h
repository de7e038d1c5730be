#pragma once

#include <ATen/core/Tensor.h>

#include "worker/plan/memory_plan.h"
#include "worker/plan/run_config.h"

namespace ithaca::engine {

// The device of this rank and what it may hold. CPU: an equal share of the host's memory for each rank on it. Throws
// EngineError (invalid config) when the job asks for CUDA and there is none. `slots` is the world size.
// CUDA: LOCAL_RANK counts through the devices of CUDA_VISIBLE_DEVICES, which should list those of all local ranks; with
// fewer, several ranks share a device and its memory. (A launcher that shows each rank only a device of its own makes
// them look shared: the plan then counts with less memory than there is.)
struct RankDevice {
  at::Device device = at::kCPU;
  plan::DeviceLimits limits;
  double peak_flops = 0;  // of dense matrix products in the training dtype, by the vendor's data sheet; 0: unknown
};

RankDevice ChooseDevice(const plan::RunConfig& config, int local_rank, int local_ranks, int world_size);

}  // namespace ithaca::engine

#pragma once

#include <string>

#include "worker/plan/memory_plan.h"

namespace ithaca::plan {

// The smallest change to the job that would fit, in one sentence: a memory setting that the job file fixed, more ranks
// to a sequence among the slots there are, or a shorter sequence. `plan` does not fit `limits`.
std::string SmallestChangeThatFits(const RunConfig& config, const ModelConfig& model, const DeviceLimits& limits,
                                   const MemoryPlan& plan);

}  // namespace ithaca::plan

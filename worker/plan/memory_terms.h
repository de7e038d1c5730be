#pragma once

#include <cstdint>
#include <vector>

#include "worker/plan/memory_plan.h"
#include "worker/plan/model_config.h"

namespace ithaca::plan {

// The memory of the fullest rank at its peak, term by term, when `model` trains with the settings of `plan` (its dtype,
// ranks, padded length and memory settings are read, its terms and totals are not). Mirrors what worker/engine
// allocates.
std::vector<MemoryTerm> MemoryTerms(const ModelConfig& model, const MemoryPlan& plan);

int64_t TotalBytes(const std::vector<MemoryTerm>& terms);

}  // namespace ithaca::plan

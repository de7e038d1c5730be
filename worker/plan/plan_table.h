#pragma once

#include <string>

#include "worker/plan/memory_plan.h"

namespace ithaca::plan {

// The table that `ithaca estimate`, `submit --dry-run`, Estimate and the engine's `plan` event all show. Plain text, <=
// 100 columns.
std::string FormatPlanTable(const MemoryPlan& plan, const RunConfig& config, const ModelConfig& model,
                            const DeviceLimits& limits);

// "2.15 GiB", "283 MiB", "12 KiB".
std::string FormatBytes(int64_t bytes);

}  // namespace ithaca::plan

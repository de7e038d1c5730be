#pragma once

#include <string>

#include "server/core/scheduler.h"

namespace ithaca {

// This machine as the scheduler sees it. GPUs by NVML (opened at run time, so that a machine without a driver needs
// nothing), else by counting /dev/nvidia0, 1, ...; their memory is then not known. Of those only the ones that an
// inherited CUDA_VISIBLE_DEVICES lists: slot i is its entry i, else the device of that index by PCI bus. CPU slots
// share the memory that is available now: `cpu_slots` < 0 means one if there is no GPU, else none.
Node DescribeLocalNode(const std::string& name, int cpu_slots);

// MemAvailable of /proc/meminfo, in bytes; 0 if it cannot be read.
int64_t AvailableMemoryBytes();

}  // namespace ithaca

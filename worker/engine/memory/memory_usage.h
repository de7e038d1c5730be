#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <nlohmann/json_fwd.hpp>

namespace ithaca::engine {

// Bytes, as in the `memory` field of heartbeat and step events. On CPU: anonymous resident memory, resident memory, and
// the highest resident memory of the process so far. On CUDA: those of LibTorch's caching allocator.
struct MemoryUsage {
  int64_t allocated = 0;
  int64_t reserved = 0;
  int64_t peak = 0;
  int64_t host_pinned = 0;
};

nlohmann::json ToJson(const MemoryUsage& usage);

// From any thread.
MemoryUsage CurrentMemoryUsage(at::Device device);

// Total and available memory of the host in bytes, cgroup limits included.
int64_t HostMemoryLimit();

// Has glibc keep freed blocks of up to 32 MiB in one arena, so that what a layer allocates and frees is not mapped and
// cleared anew every time; larger ones go back at once. Call first in main.
void ConfigureHostAllocator();

}  // namespace ithaca::engine

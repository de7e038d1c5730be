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

// Tensors come from the host cache (host_cache.h); what glibc frees otherwise goes back at once, from one arena, so
// that resident memory is what the plan says. Call first in main.
void ConfigureHostAllocator();

}  // namespace ithaca::engine

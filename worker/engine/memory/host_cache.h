#pragma once

#include <cstddef>
#include <cstdint>

namespace ithaca::engine {

// LibTorch's allocator of CPU tensors from now on: blocks of at least 256 KiB that a step frees are kept for the next
// tensor of about their size (at most an eighth larger), instead of being returned, mapped and cleared anew for every
// layer of every step. As every step asks for the same sizes, nothing grows after the second. Lives as long as the
// process; any thread. A request that the host cannot serve is tried once more with the cache emptied, then throws as
// LibTorch's own allocator does. Call first in main.
void InstallHostCache();

// Returns the blocks nobody uses to the system: after loading, whose sizes no step asks for.
void TrimHostCache();

// Bytes of blocks that are kept and not in use.
int64_t HostCacheBytes();

}  // namespace ithaca::engine

#pragma once

#include <cstdint>
#include <functional>

namespace ithaca::engine {

// LibTorch's number of threads (one, inside a parallel region).
int UnitThreads();

// Runs run(unit, thread) for every unit of [0, units), each once, on UnitThreads() threads; a free thread takes the
// next unit, so put the longest first. `thread` < UnitThreads() names scratch that no other running unit uses. Units
// must not throw.
void ParallelUnits(int64_t units, const std::function<void(int64_t unit, int thread)>& run);

}  // namespace ithaca::engine

#include "worker/engine/attention/parallel_units.h"

#include <ATen/Parallel.h>
#include <omp.h>

namespace ithaca::engine {

int UnitThreads() { return at::in_parallel_region() ? 1 : at::get_num_threads(); }

void ParallelUnits(int64_t units, const std::function<void(int64_t unit, int thread)>& run) {
  const int threads = UnitThreads();
  if (threads == 1 || units == 1) {
    for (int64_t unit = 0; unit < units; ++unit) run(unit, 0);
    return;
  }
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (int64_t unit = 0; unit < units; ++unit) run(unit, omp_get_thread_num());
}

}  // namespace ithaca::engine

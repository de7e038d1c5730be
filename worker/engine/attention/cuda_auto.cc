#include "worker/engine/attention/cuda_auto.h"

#include "worker/engine/attention/cuda_measurement.h"

namespace ithaca::engine {

std::unique_ptr<AttentionBackend> MakeCudaAutoAttention(const at::Tensor& sample_THD, const HeadGroups& groups) {
  if (sample_THD.scalar_type() == at::kFloat) return MakeCudaEfficientAttention();
  return FasterCudaAttention(sample_THD, groups);
}

}  // namespace ithaca::engine

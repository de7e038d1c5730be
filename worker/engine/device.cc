#include "worker/engine/device.h"

#include <ATen/Parallel.h>

#include "worker/engine/cuda_device.h"
#include "worker/engine/errors.h"
#include "worker/engine/memory/memory_usage.h"

namespace ithaca::engine {

RankDevice ChooseDevice(const plan::RunConfig& config, int local_rank, int local_ranks, int world_size) {
  const int cuda_devices = CudaDeviceCount();
  const plan::DeviceKind kind =
      config.device.value_or(cuda_devices > 0 ? plan::DeviceKind::kCuda : plan::DeviceKind::kCpu);
  RankDevice chosen;
  chosen.limits.kind = kind;
  chosen.limits.slots = world_size;
  chosen.limits.threads_per_slot = at::get_num_threads();
  chosen.limits.host_bytes_per_slot = HostMemoryLimit() / local_ranks;
  if (kind == plan::DeviceKind::kCpu) {
    chosen.limits.name = "cpu";
    chosen.limits.bytes_per_slot = chosen.limits.host_bytes_per_slot;
    return chosen;
  }
  if (cuda_devices == 0) {
    throw EngineError(plan::ExitCode::kInvalidConfig,
                      "resources.device is cuda, but this machine or this build of the engine has no CUDA device");
  }
  const int index = local_rank % cuda_devices;
  const int ranks_on_it = (local_ranks + cuda_devices - 1) / cuda_devices;
  const CudaDevice cuda = DescribeCudaDevice(index);
  chosen.device = at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(index));
  chosen.limits.name = cuda.name;
  chosen.limits.bytes_per_slot = cuda.memory_bytes / ranks_on_it;
  const bool bf16 = config.dtype.value_or(plan::DType::kBFloat16) == plan::DType::kBFloat16;
  chosen.peak_flops = bf16 ? cuda.bfloat16_peak_flops / ranks_on_it : 0;
  return chosen;
}

}  // namespace ithaca::engine

#include "worker/engine/cuda_device.h"

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>

#include <utility>
#include <vector>

namespace ithaca::engine {
namespace {

// Dense bf16 tensor-core peak, vendor data sheets. The first name that is part of the device's name counts.
double Bfloat16PeakFlops(const std::string& name) {
  static const std::vector<std::pair<std::string, double>> kPeaks = {
      {"H100 PCIe", 756e12}, {"H100 NVL", 835e12}, {"H100", 989e12},    {"H200", 989e12},
      {"H800", 989e12},      {"B200", 2250e12},    {"A100", 312e12},    {"A800", 312e12},
      {"L40S", 362e12},      {"A10G", 70e12},      {"RTX 4090", 165e12}};
  for (const auto& [part, flops] : kPeaks) {
    if (name.find(part) != std::string::npos) return flops;
  }
  return 0;
}

}  // namespace

int CudaDeviceCount() { return c10::cuda::device_count(); }

CudaDevice DescribeCudaDevice(int index) {
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(index));
  CudaDevice device;
  device.name = at::cuda::getDeviceProperties(index)->name;
  size_t free = 0;
  size_t total = 0;
  C10_CUDA_CHECK(cudaMemGetInfo(&free, &total));
  device.memory_bytes = static_cast<int64_t>(free);
  device.bfloat16_peak_flops = Bfloat16PeakFlops(device.name);
  return device;
}

}  // namespace ithaca::engine

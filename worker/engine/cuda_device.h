#pragma once

#include <cstdint>
#include <string>

namespace ithaca::engine {

// cuda_device.cc, or no_cuda_device.cc in a build without CUDA.

struct CudaDevice {
  std::string name;
  int64_t memory_bytes = 0;        // free when asked
  double bfloat16_peak_flops = 0;  // dense, by the vendor's data sheet; 0: not in the table
};

int CudaDeviceCount();

// Makes `index` the current device of the calling thread. Throws what LibTorch throws.
CudaDevice DescribeCudaDevice(int index);

}  // namespace ithaca::engine

#include "worker/engine/cuda_device.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {

int CudaDeviceCount() { return 0; }

CudaDevice DescribeCudaDevice(int) {
  throw EngineError(plan::ExitCode::kInvalidConfig, "this engine was built without CUDA");
}

}  // namespace ithaca::engine

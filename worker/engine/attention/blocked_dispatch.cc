#include "worker/engine/attention/blocked_kernel.h"

namespace ithaca::engine::blocked {

#if defined(__x86_64__)
namespace avx512 {
void Forward(const ForwardBlock&);
void Backward(const BackwardBlock&);
}  // namespace avx512
namespace avx2 {
void Forward(const ForwardBlock&);
void Backward(const BackwardBlock&);
}  // namespace avx2
#endif
namespace baseline {
void Forward(const ForwardBlock&);
void Backward(const BackwardBlock&);
}  // namespace baseline

const Kernels* AvailableKernels() {
  static const Kernels* const available = [] {
    static Kernels kernels[4] = {};
    int count = 0;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw")) {
      kernels[count++] = {"avx512", avx512::Forward, avx512::Backward};
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      kernels[count++] = {"avx2", avx2::Forward, avx2::Backward};
    }
#endif
    kernels[count] = {"baseline", baseline::Forward, baseline::Backward};
    return kernels;
  }();
  return available;
}

const Kernels& BestKernels() { return AvailableKernels()[0]; }

}  // namespace ithaca::engine::blocked

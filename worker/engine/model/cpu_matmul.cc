#include "worker/engine/model/cpu_matmul.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace at::native {

// result = beta result + alpha mat1 mat2. Exported by libtorch_cpu, but declared in no header that LibTorch installs;
// weak, so that a LibTorch without it links.
__attribute__((weak)) void mkldnn_matmul(const Tensor& mat1, const Tensor& mat2, const Tensor& result, float beta,
                                         float alpha);

}  // namespace at::native

namespace ithaca::engine {
namespace {

// oneDNN's AVX-512 kernels add up the whole inner dimension in one fp32 accumulator. Over a real model's 1536 that
// makes gradients four times less accurate than blocks of this size do, which cost 5 % of the speed of the longest
// products.
constexpr int64_t kInnerBlock = 768;

// Whether oneDNN takes fp32 matrices on this machine; it refuses where it has no AVX-512. Tried once, on a product
// whose result is known.
bool OneDnnWorks() {
#if defined(__x86_64__)
  if (at::native::mkldnn_matmul == nullptr || !__builtin_cpu_supports("avx512bw")) return false;
#else
  if (at::native::mkldnn_matmul == nullptr) return false;
#endif
  try {
    const at::Tensor a = at::full({32, 48}, 2.0);
    const at::Tensor b = at::full({16, 48}, 3.0);
    at::Tensor out = at::ones({32, 16});
    at::native::mkldnn_matmul(a, b.t(), out, 1.0f, 1.0f);
    return out.eq(1.0 + 48 * 6.0).all().item<bool>();
  } catch (const c10::Error&) {
    return false;
  }
}

}  // namespace

void CpuMatmul(const at::Tensor& a, const at::Tensor& b, at::Tensor& out, float beta) {
  static const bool one_dnn_works = OneDnnWorks();
  if (one_dnn_works) {
    const int64_t inner = a.size(1);
    for (int64_t begin = 0; begin < inner; begin += kInnerBlock) {
      const int64_t length = std::min(kInnerBlock, inner - begin);
      at::native::mkldnn_matmul(a.narrow(1, begin, length), b.narrow(0, begin, length), out, begin == 0 ? beta : 1.0f,
                                1.0f);
    }
  } else {
    at::addmm_out(out, out, a, b, beta, 1.0);
  }
}

}  // namespace ithaca::engine

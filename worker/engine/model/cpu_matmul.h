#pragma once

#include <ATen/core/Tensor.h>

namespace ithaca::engine {

// out = beta out + a b, fp32 matrices on the CPU with any strides, out contiguous.
//
// By oneDNN where it has AVX-512 code for this machine, else by at::addmm (MKL): MKL uses AVX-512 on Intel's processors
// only, and on others is half as fast as oneDNN. Which one is a function of the machine and the build alone, so runs
// repeat bit for bit.
void CpuMatmul(const at::Tensor& a, const at::Tensor& b, at::Tensor& out, float beta);

}  // namespace ithaca::engine

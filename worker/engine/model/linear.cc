#include "worker/engine/model/linear.h"

#include <ATen/ATen.h>

#include "worker/engine/model/cpu_matmul.h"

namespace ithaca::engine {
namespace {

bool IsCpuFloat(const at::Tensor& tensor) { return tensor.is_cpu() && tensor.scalar_type() == at::kFloat; }

}  // namespace

void Linear(const at::Tensor& x_NI, const at::Tensor& weight_OI, at::Tensor& out_NO) {
  if (IsCpuFloat(x_NI)) {
    CpuMatmul(x_NI, weight_OI.t(), out_NO, 0.0f);
  } else {
    at::mm_out(out_NO, x_NI, weight_OI.t());
  }
}

void LinearAdd(const at::Tensor& residual_NO, const at::Tensor& x_NI, const at::Tensor& weight_OI, at::Tensor& out_NO) {
  if (IsCpuFloat(x_NI)) {
    out_NO.copy_(residual_NO);
    CpuMatmul(x_NI, weight_OI.t(), out_NO, 1.0f);
  } else {
    at::addmm_out(out_NO, residual_NO, x_NI, weight_OI.t());
  }
}

void LinearInputGradient(const at::Tensor& d_out_NO, const at::Tensor& weight_OI, at::Tensor& d_x_NI) {
  if (IsCpuFloat(d_out_NO)) {
    CpuMatmul(d_out_NO, weight_OI, d_x_NI, 0.0f);
  } else {
    at::mm_out(d_x_NI, d_out_NO, weight_OI);
  }
}

void AddLinearWeightGradient(const at::Tensor& d_out_NO, const at::Tensor& x_NI, at::Tensor& gradient_OI) {
  if (IsCpuFloat(x_NI)) {
    CpuMatmul(d_out_NO.t(), x_NI, gradient_OI, 1.0f);
  } else if (x_NI.is_cuda()) {
    at::addmm_out(gradient_OI, gradient_OI, d_out_NO.t(), x_NI, at::kFloat);
  } else {
    gradient_OI.addmm_(d_out_NO.to(at::kFloat).t(), x_NI.to(at::kFloat));
  }
}

}  // namespace ithaca::engine

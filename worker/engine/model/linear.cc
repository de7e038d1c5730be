#include "worker/engine/model/linear.h"

#include <ATen/ATen.h>

namespace ithaca::engine {

void Linear(const at::Tensor& x_NI, const at::Tensor& weight_OI, at::Tensor& out_NO) {
  at::mm_out(out_NO, x_NI, weight_OI.t());
}

void LinearAdd(const at::Tensor& residual_NO, const at::Tensor& x_NI, const at::Tensor& weight_OI, at::Tensor& out_NO) {
  at::addmm_out(out_NO, residual_NO, x_NI, weight_OI.t());
}

void LinearInputGradient(const at::Tensor& d_out_NO, const at::Tensor& weight_OI, at::Tensor& d_x_NI) {
  at::mm_out(d_x_NI, d_out_NO, weight_OI);
}

void AddLinearWeightGradient(const at::Tensor& d_out_NO, const at::Tensor& x_NI, at::Tensor& gradient_OI) {
  if (x_NI.scalar_type() == at::kFloat) {
    gradient_OI.addmm_(d_out_NO.t(), x_NI);
  } else if (x_NI.is_cuda()) {
    at::addmm_out(gradient_OI, gradient_OI, d_out_NO.t(), x_NI, at::kFloat);
  } else {
    gradient_OI.addmm_(d_out_NO.to(at::kFloat).t(), x_NI.to(at::kFloat));
  }
}

}  // namespace ithaca::engine

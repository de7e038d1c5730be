#pragma once

#include <ATen/core/Tensor.h>

// Matrix products of the layers, into tensors that exist. N tokens, I inputs, O outputs; weights are [O, I] as in
// Hugging Face checkpoints.

namespace ithaca::engine {

// out_NO = x_NI weight_OI^T
void Linear(const at::Tensor& x_NI, const at::Tensor& weight_OI, at::Tensor& out_NO);

// out_NO = residual_NO + x_NI weight_OI^T
void LinearAdd(const at::Tensor& residual_NO, const at::Tensor& x_NI, const at::Tensor& weight_OI, at::Tensor& out_NO);

// d_x_NI = d_out_NO weight_OI
void LinearInputGradient(const at::Tensor& d_out_NO, const at::Tensor& weight_OI, at::Tensor& d_x_NI);

// gradient_OI (fp32) += d_out_NO^T x_NI, summed in fp32 whatever the dtype of the activations.
void AddLinearWeightGradient(const at::Tensor& d_out_NO, const at::Tensor& x_NI, at::Tensor& gradient_OI);

}  // namespace ithaca::engine

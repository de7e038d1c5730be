#pragma once

#include <ATen/core/Tensor.h>

#include "worker/engine/model/rope.h"

// The parts of a layer that are not matrix products, forward and backward. Each takes the fused CPU kernel when its
// tensors are contiguous fp32 on the CPU, else ATen operations that compute in fp32 and round at the end. N tokens (or
// token-head pairs), E width, I MLP width, S tokens of the shard, H heads (query, key, value), D head size. Formulas
// are those of transformers' LlamaRMSNorm, apply_rotary_pos_emb and LlamaMLP.

namespace ithaca::engine {

// out_NE = weight * x / rms(x); rstd_N (fp32) is kept for backward. Tensors may be [.., E] with any strides on ATen.
void RmsNorm(const at::Tensor& x_NE, const at::Tensor& weight_E, double eps, at::Tensor& out_NE, at::Tensor& rstd_N);

// d_x_NE += gradient by x; d_weight_E (fp32) += gradient by weight.
void RmsNormBackward(const at::Tensor& d_out_NE, const at::Tensor& x_NE, const at::Tensor& weight_E,
                     const at::Tensor& rstd_N, at::Tensor& d_x_NE, at::Tensor& d_weight_E);

// Rotates the first `heads` heads in place; inverse = the gradient of that.
void ApplyRope(at::Tensor& qkv_SHD, int64_t heads, const RopeTable& table, bool inverse);

// out_NI = silu(gate) * up of gate_up [N, 2 I].
void SwiGlu(const at::Tensor& gate_up_N2I, at::Tensor& out_NI);

// In place: gate_up becomes its gradient, d_out becomes silu(gate) * up, the input of the down projection.
void SwiGluBackward(at::Tensor& gate_up_N2I, at::Tensor& d_out_NI);

}  // namespace ithaca::engine

#pragma once

#include <cstdint>

// The elementwise parts of a layer in fp32 on the CPU, fused, over a range of rows; the caller spreads rows over
// threads. All arrays are contiguous. N rows (tokens), E width.

namespace ithaca::engine::cpu {

// out = weight * (x / rms(x)); rstd[row] = 1 / sqrt(mean(x^2) + eps).
void RmsNormRows(const float* x, const float* weight, float eps, int64_t rows, int64_t width, float* out, float* rstd);

// d_x += gradient of RmsNorm by x; d_weight[width] += gradient by weight, summed over the rows in double.
void RmsNormBackwardRows(const float* d_out, const float* x, const float* weight, const float* rstd, int64_t rows,
                         int64_t width, float* d_x, double* d_weight);

// Rotates the first `heads` heads of each row in place: (a, b) -> (a cos - b sin, b cos + a sin), a and b the halves of
// a head. sign -1 turns back. Rows are row_stride floats apart; cos and sin are [rows, head_dim / 2].
void RopeRows(float* qkv, const float* cos, const float* sin, float sign, int64_t rows, int64_t row_stride,
              int64_t heads, int64_t head_dim);

// gate_up [rows, 2 width] -> out[rows, width] = silu(gate) * up.
void SwiGluRows(const float* gate_up, int64_t rows, int64_t width, float* out);

// gate_up becomes its gradient; d_out becomes silu(gate) * up, which the weight gradient needs.
void SwiGluBackwardRows(float* gate_up, float* d_out, int64_t rows, int64_t width);

}  // namespace ithaca::engine::cpu

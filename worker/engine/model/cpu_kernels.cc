#include "worker/engine/model/cpu_kernels.h"

#include <cmath>

#include "worker/engine/model/cpu_vector.h"

namespace ithaca::engine::cpu {

ITHACA_VECTOR_CLONES
void RmsNormRows(const float* x, const float* weight, float eps, int64_t rows, int64_t width, float* out, float* rstd) {
  for (int64_t row = 0; row < rows; ++row) {
    const float* in = x + row * width;
    float* to = out + row * width;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; ++i) sum += in[i] * in[i];
    const float scale = 1.0f / std::sqrt(sum / static_cast<float>(width) + eps);
    rstd[row] = scale;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) to[i] = weight[i] * (in[i] * scale);
  }
}

ITHACA_VECTOR_CLONES
void RmsNormBackwardRows(const float* d_out, const float* x, const float* weight, const float* rstd, int64_t rows,
                         int64_t width, float* d_x, double* d_weight) {
  for (int64_t row = 0; row < rows; ++row) {
    const float* g = d_out + row * width;
    const float* in = x + row * width;
    float* to = d_x + row * width;
    const float scale = rstd[row];
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t i = 0; i < width; ++i) dot += g[i] * weight[i] * in[i];
    const float correction = dot * scale * scale * scale / static_cast<float>(width);
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      d_weight[i] += static_cast<double>(g[i] * (in[i] * scale));
      to[i] += scale * (g[i] * weight[i]) - correction * in[i];
    }
  }
}

ITHACA_VECTOR_CLONES
void RopeRows(float* qkv, const float* cos, const float* sin, float sign, int64_t rows, int64_t row_stride,
              int64_t heads, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  for (int64_t row = 0; row < rows; ++row) {
    const float* c = cos + row * half;
    const float* s = sin + row * half;
    for (int64_t head = 0; head < heads; ++head) {
      float* a = qkv + row * row_stride + head * head_dim;
      float* b = a + half;
#pragma omp simd
      for (int64_t i = 0; i < half; ++i) {
        const float first = a[i];
        const float second = b[i];
        a[i] = first * c[i] - second * (sign * s[i]);
        b[i] = second * c[i] + first * (sign * s[i]);
      }
    }
  }
}

ITHACA_VECTOR_CLONES
void SwiGluRows(const float* gate_up, int64_t rows, int64_t width, float* out) {
  for (int64_t row = 0; row < rows; ++row) {
    const float* gate = gate_up + row * 2 * width;
    const float* up = gate + width;
    float* to = out + row * width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) to[i] = gate[i] / (1.0f + VectorExp(-gate[i])) * up[i];
  }
}

ITHACA_VECTOR_CLONES
void SwiGluBackwardRows(float* gate_up, float* d_out, int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; ++row) {
    float* gate = gate_up + row * 2 * width;
    float* up = gate + width;
    float* d = d_out + row * width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      const float sigmoid = 1.0f / (1.0f + VectorExp(-gate[i]));
      const float silu = gate[i] * sigmoid;
      const float d_out_i = d[i];
      const float d_silu = d_out_i * up[i];
      d[i] = silu * up[i];
      up[i] = d_out_i * silu;
      gate[i] = d_silu * (sigmoid + silu * (1.0f - sigmoid));
    }
  }
}

}  // namespace ithaca::engine::cpu

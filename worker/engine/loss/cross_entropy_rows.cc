#include "worker/engine/loss/cross_entropy_rows.h"

#include <algorithm>
#include <cmath>

#include "worker/engine/model/cpu_vector.h"

namespace ithaca::engine::cpu {

ITHACA_VECTOR_CLONES
double CrossEntropyRows(float* logits, const int64_t* labels, int64_t rows, int64_t vocab, float scale) {
  constexpr int64_t kBlock = 1024;  // floats summed in fp32 before the sum goes on in double
  double loss = 0;
  for (int64_t row = 0; row < rows; ++row) {
    float* x = logits + row * vocab;
    if (labels[row] < 0) {
      std::fill(x, x + vocab, 0.0f);
      continue;
    }
    const float target = x[labels[row]];
    float max = x[0];
#pragma omp simd reduction(max : max)
    for (int64_t i = 0; i < vocab; ++i) max = x[i] > max ? x[i] : max;
    double sum = 0;
    for (int64_t begin = 0; begin < vocab; begin += kBlock) {
      const int64_t end = std::min(begin + kBlock, vocab);
      float block = 0;
#pragma omp simd reduction(+ : block)
      for (int64_t i = begin; i < end; ++i) {
        x[i] = VectorExp(x[i] - max);
        block += x[i];
      }
      sum += block;
    }
    loss += std::log(sum) + static_cast<double>(max) - static_cast<double>(target);
    const float factor = static_cast<float>(scale / sum);
#pragma omp simd
    for (int64_t i = 0; i < vocab; ++i) x[i] *= factor;
    x[labels[row]] -= scale;
  }
  return loss;
}

}  // namespace ithaca::engine::cpu

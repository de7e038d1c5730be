#include <cuda_bf16.h>

#include "worker/engine/loss/cross_entropy_rows_cuda.h"

// One block a row. A row is read twice and written once: with 50,000 to 150,000 logits the time is that of the memory.
// Sums are taken in double, in an order that depends on nothing but the vocabulary.

namespace ithaca::engine::cuda {
namespace {

constexpr int kThreads = 512;

__device__ float Load(float value) { return value; }
__device__ float Load(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ void Store(float* to, float value) { *to = value; }
__device__ void Store(__nv_bfloat16* to, float value) { *to = __float2bfloat16_rn(value); }

__device__ float Larger(float a, float b) { return fmaxf(a, b); }
__device__ double Sum(double a, double b) { return a + b; }

// Combines one value of every thread; all threads get the result.
template <typename T>
__device__ T Reduce(T value, T (*combine)(T, T), T* shared) {
  shared[threadIdx.x] = value;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) shared[threadIdx.x] = combine(shared[threadIdx.x], shared[threadIdx.x + half]);
  }
  __syncthreads();
  const T result = shared[0];
  __syncthreads();
  return result;
}

template <typename T>
__global__ void CrossEntropyKernel(T* logits, const int64_t* labels, int64_t vocab, float scale, double* losses) {
  __shared__ float shared_float[kThreads];
  __shared__ double shared_double[kThreads];
  T* const row = logits + static_cast<int64_t>(blockIdx.x) * vocab;
  const int64_t label = labels[blockIdx.x];
  if (label < 0) {
    if (threadIdx.x == 0) losses[blockIdx.x] = 0;
    for (int64_t i = threadIdx.x; scale != 0 && i < vocab; i += kThreads) Store(row + i, 0.0f);
    return;
  }
  float largest = -INFINITY;
  for (int64_t i = threadIdx.x; i < vocab; i += kThreads) largest = fmaxf(largest, Load(row[i]));
  largest = Reduce<float>(largest, Larger, shared_float);
  double sum = 0;
  for (int64_t i = threadIdx.x; i < vocab; i += kThreads) sum += expf(Load(row[i]) - largest);
  sum = Reduce<double>(sum, Sum, shared_double);
  if (threadIdx.x == 0) losses[blockIdx.x] = log(sum) + largest - static_cast<double>(Load(row[label]));
  if (scale == 0) return;
  __syncthreads();  // the label's logit is read before it is overwritten
  const float factor = static_cast<float>(scale / sum);
  for (int64_t i = threadIdx.x; i < vocab; i += kThreads) {
    const float gradient = expf(Load(row[i]) - largest) * factor;
    Store(row + i, i == label ? gradient - scale : gradient);
  }
}

}  // namespace

void CrossEntropyRows(float* logits, const int64_t* labels, int64_t rows, int64_t vocab, float scale, double* losses,
                      cudaStream_t stream) {
  if (rows == 0) return;
  CrossEntropyKernel<<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(logits, labels, vocab, scale, losses);
}

void CrossEntropyRowsBFloat16(void* logits, const int64_t* labels, int64_t rows, int64_t vocab, float scale,
                              double* losses, cudaStream_t stream) {
  if (rows == 0) return;
  CrossEntropyKernel<<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(static_cast<__nv_bfloat16*>(logits), labels,
                                                                           vocab, scale, losses);
}

}  // namespace ithaca::engine::cuda

#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace ithaca::engine::cuda {

// The kernel behind CrossEntropyOnCuda, on raw device memory: losses[row] is the row's loss, 0 without a label.
void CrossEntropyRows(float* logits, const int64_t* labels, int64_t rows, int64_t vocab, float scale, double* losses,
                      cudaStream_t stream);
// bf16 logits, given by their bits.
void CrossEntropyRowsBFloat16(void* logits, const int64_t* labels, int64_t rows, int64_t vocab, float scale,
                              double* losses, cudaStream_t stream);

}  // namespace ithaca::engine::cuda

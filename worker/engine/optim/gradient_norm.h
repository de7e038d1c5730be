#pragma once

#include <ATen/core/Tensor.h>

namespace ithaca::engine {

// Sum of squares of a flat fp32 tensor, in double: fp64 [1] on its device. Deterministic for a given number of threads.
at::Tensor SumOfSquares(const at::Tensor& flat);

}  // namespace ithaca::engine

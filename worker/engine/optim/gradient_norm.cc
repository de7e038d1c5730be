#include "worker/engine/optim/gradient_norm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

namespace ithaca::engine {
namespace {

constexpr int64_t kBlock = 1 << 16;  // elements; one partial sum each, added in order

double SumOfSquaresOfBlock(const float* x, int64_t count) {
  constexpr int64_t kLanes = 16;
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += static_cast<double>(x[i + lane]) * x[i + lane];
  }
  double sum = 0;
  for (; i < count; ++i) sum += static_cast<double>(x[i]) * x[i];
  for (const double lane : lanes) sum += lane;
  return sum;
}

}  // namespace

at::Tensor SumOfSquares(const at::Tensor& flat) {
  if (!flat.is_cpu()) return at::linalg_vector_norm(flat, 2, at::nullopt, false, at::kDouble).square().view({1});
  const int64_t blocks = (flat.numel() + kBlock - 1) / kBlock;
  std::vector<double> partial(blocks);
  const float* x = flat.const_data_ptr<float>();
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * kBlock;
      partial[block] = SumOfSquaresOfBlock(x + first, std::min(kBlock, flat.numel() - first));
    }
  });
  double sum = 0;
  for (const double value : partial) sum += value;
  return at::full({1}, sum, at::kDouble);
}

}  // namespace ithaca::engine

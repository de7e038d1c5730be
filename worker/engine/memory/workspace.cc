#include "worker/engine/memory/workspace.h"

#include <ATen/ATen.h>

namespace ithaca::engine {

at::Tensor Workspace::Get(const std::string& name, at::IntArrayRef shape, at::ScalarType dtype) {
  int64_t elements = 1;
  for (const int64_t size : shape) elements *= size;
  at::Tensor& buffer = buffers_[{name, dtype}];
  if (!buffer.defined() || buffer.numel() < elements) {
    buffer.reset();
    buffer = at::empty({elements}, at::TensorOptions().dtype(dtype).device(device_));
  }
  return buffer.narrow(0, 0, elements).view(shape);
}

int64_t Workspace::bytes() const {
  int64_t sum = 0;
  for (const auto& [key, buffer] : buffers_) sum += static_cast<int64_t>(buffer.nbytes());
  return sum;
}

}  // namespace ithaca::engine

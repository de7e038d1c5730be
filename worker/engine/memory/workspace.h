#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

namespace ithaca::engine {

// Scratch tensors by name, allocated at first use and then used again in every layer and step, so that a step allocates
// nothing that grows. Owned by the decoder or the loss; one thread. A tensor is valid until the next Get of its name;
// its content is undefined. Running out of memory throws what the allocator throws.
class Workspace {
 public:
  explicit Workspace(at::Device device) : device_(device) {}

  at::Tensor Get(const std::string& name, at::IntArrayRef shape, at::ScalarType dtype);

  int64_t bytes() const;

 private:
  at::Device device_;
  std::map<std::pair<std::string, at::ScalarType>, at::Tensor> buffers_;  // flat, grow only
};

}  // namespace ithaca::engine

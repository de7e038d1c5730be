#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "worker/engine/checkpoint/safetensors.h"
#include "worker/engine/checkpoint/weight_files.h"
#include "worker/plan/model_config.h"

namespace ithaca::engine {

struct ParameterSpec {
  std::string name;  // as in a Hugging Face checkpoint
  std::vector<int64_t> shape;
};

// Every trained tensor of a model: first all vectors (norms, biases), then all matrices, so that each kind is
// one range of elements. Those that are used together (q, k, v; gate, up) follow one another.
std::vector<ParameterSpec> ParameterSpecs(const plan::ModelConfig& config);

// The weights and their gradients, each one flat buffer with a view per tensor: what runs over all of them (sum over
// ranks, norm, optimizer) is a few large operations. Weights are fp32 or bf16, gradients always fp32. Owned by the
// trainer; the decoder keeps views of it; one thread.
class Parameters {
 public:
  // The flat buffers are padded with zeros to `parts` equal parts of whole vectors of any instruction set.
  Parameters(const plan::ModelConfig& config, at::ScalarType dtype, at::Device device, int64_t parts = 1);

  // Copies every tensor in. Throws EngineError (invalid model) that names a tensor that is missing, has another shape,
  // or is none of this model's.
  void Load(const WeightFiles& files);

  const std::vector<ParameterSpec>& specs() const { return specs_; }
  at::ScalarType dtype() const { return weights_.scalar_type(); }
  int64_t elements() const { return offsets_.back(); }
  int64_t vector_elements() const { return vector_elements_; }  // elements before the first matrix

  at::Tensor& flat_weights() { return weights_; }
  at::Tensor& flat_gradients() { return gradients_; }
  const at::Tensor& flat_weights() const { return weights_; }

  at::Tensor Weight(const std::string& name) const { return View(weights_, name); }
  at::Tensor Gradient(const std::string& name) const { return View(gradients_, name); }

  // The matrices (or vectors) `names`, adjacent in the layout, as one with all their rows.
  at::Tensor StackedWeight(const std::vector<std::string>& names) const { return Stacked(weights_, names); }
  at::Tensor StackedGradient(const std::vector<std::string>& names) const { return Stacked(gradients_, names); }

  // A view per tensor of any flat buffer laid out as this one is (optimizer state), `suffix` added to every name.
  NamedTensors Views(const at::Tensor& flat, const std::string& suffix = "") const;

 private:
  at::Tensor View(const at::Tensor& flat, const std::string& name) const;
  at::Tensor Stacked(const at::Tensor& flat, const std::vector<std::string>& names) const;

  std::vector<ParameterSpec> specs_;
  std::map<std::string, size_t> index_of_;
  std::vector<int64_t> offsets_;  // specs_.size() + 1
  int64_t vector_elements_ = 0;
  at::Tensor weights_;
  at::Tensor gradients_;
};

}  // namespace ithaca::engine

#include "worker/engine/model/rope.h"

#include <ATen/ATen.h>

#include <numbers>

namespace ithaca::engine {
namespace {

// Llama 3.1: frequencies whose wavelength exceeds the original context are divided by `factor`, short ones stay, those
// between are blended (transformers, _compute_llama3_parameters).
at::Tensor ScaleAsLlama3(const at::Tensor& frequencies, const plan::Llama3RopeScaling& scaling) {
  const double original = scaling.original_max_position_embeddings;
  const double low_wavelength = original / scaling.low_freq_factor;
  const double high_wavelength = original / scaling.high_freq_factor;
  const at::Tensor wavelengths = (2.0 * std::numbers::pi) / frequencies;
  const at::Tensor scaled = at::where(wavelengths > low_wavelength, frequencies / scaling.factor, frequencies);
  const at::Tensor smooth =
      (original / wavelengths - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
  const at::Tensor blended = (1 - smooth) * scaled / scaling.factor + smooth * scaled;
  const at::Tensor medium = (wavelengths >= high_wavelength).logical_and(wavelengths <= low_wavelength);
  return at::where(medium, blended, scaled);
}

}  // namespace

at::Tensor RopeInverseFrequencies(const plan::ModelConfig& config) {
  const at::Tensor exponents = at::arange(0, config.head_dim, 2, at::kFloat) / static_cast<double>(config.head_dim);
  const at::Tensor frequencies = at::reciprocal(at::pow(at::Scalar(config.rope_theta), exponents));
  return config.rope_scaling ? ScaleAsLlama3(frequencies, *config.rope_scaling) : frequencies;
}

RopeTable MakeRopeTable(const at::Tensor& inverse_frequencies, const at::Tensor& positions_S) {
  const at::Tensor angles = positions_S.to(at::kFloat).unsqueeze(1) * inverse_frequencies.unsqueeze(0);
  return {at::cos(angles), at::sin(angles)};
}

}  // namespace ithaca::engine

#include "worker/engine/model/rope.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ithaca::engine {
namespace {

// Llama 3.1: frequencies whose wavelength exceeds the original context are divided by `factor`, short ones stay, those
// between are blended (transformers, _compute_llama3_parameters).
at::Tensor ScaleAsLlama3(const at::Tensor& frequencies, const plan::RopeScaling& scaling) {
  const double original = scaling.original_positions;
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

// YaRN (arXiv 2309.00071): dimensions that turn more than beta_fast times within the original context stay, those that
// turn less than beta_slow times are divided by `factor`, those between are blended (transformers,
// _compute_yarn_parameters).
at::Tensor ScaleAsYarn(const plan::ModelConfig& config) {
  const plan::RopeScaling& scaling = config.rope_scaling;
  const auto dim = static_cast<double>(config.head_dim);
  const auto dimension_of = [&](double rotations) {
    return dim * std::log(scaling.original_positions / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(config.rope_theta));
  };
  double low = dimension_of(scaling.beta_fast), high = dimension_of(scaling.beta_slow);
  if (scaling.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  const at::Tensor ramp = ((at::arange(config.head_dim / 2, at::kFloat) - low) / (high - low)).clamp(0, 1);
  const at::Tensor stays = 1 - ramp;
  const at::Tensor powers = at::pow(at::Scalar(config.rope_theta), at::arange(0, config.head_dim, 2, at::kFloat) / dim);
  return at::reciprocal(scaling.factor * powers) * (1 - stays) + at::reciprocal(powers) * stays;
}

}  // namespace

at::Tensor RopeInverseFrequencies(const plan::ModelConfig& config) {
  const at::Tensor exponents = at::arange(0, config.head_dim, 2, at::kFloat) / static_cast<double>(config.head_dim);
  const at::Tensor frequencies = at::reciprocal(at::pow(at::Scalar(config.rope_theta), exponents));
  switch (config.rope_scaling.type) {
    case plan::RopeType::kDefault:
      return frequencies;
    case plan::RopeType::kLinear:
      return frequencies / config.rope_scaling.factor;
    case plan::RopeType::kLlama3:
      return ScaleAsLlama3(frequencies, config.rope_scaling);
    case plan::RopeType::kYarn:
      return ScaleAsYarn(config);
  }
  return frequencies;
}

RopeTable MakeRopeTable(const at::Tensor& inverse_frequencies, const at::Tensor& positions_S, double factor) {
  const at::Tensor angles = positions_S.to(at::kFloat).unsqueeze(1) * inverse_frequencies.unsqueeze(0);
  return {at::cos(angles).mul_(factor), at::sin(angles).mul_(factor)};
}

}  // namespace ithaca::engine

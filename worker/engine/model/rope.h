#pragma once

#include <ATen/core/Tensor.h>

#include "worker/plan/model_config.h"

// S tokens of this shard, D head size.

namespace ithaca::engine {

// Inverse frequencies [D / 2] fp32 of rotary position embeddings, in the arithmetic of transformers'
// modeling_rope_utils (fp32 throughout), rescaled as the model says.
at::Tensor RopeInverseFrequencies(const plan::ModelConfig& config);

// cos and sin of position x frequency, times `factor` (YaRN), fp32 [S, D / 2] each.
struct RopeTable {
  at::Tensor cos_SD2;
  at::Tensor sin_SD2;
};

RopeTable MakeRopeTable(const at::Tensor& inverse_frequencies, const at::Tensor& positions_S, double factor = 1.0);

}  // namespace ithaca::engine

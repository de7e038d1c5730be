#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>

#include "worker/plan/json_section.h"

namespace ithaca::plan {

enum class RopeType { kDefault, kLinear, kLlama3, kYarn };

// How RoPE frequencies are rescaled for sequences longer than the model was trained on: config.json's rope_scaling, or
// the job file's model.rope_scaling. The formulas are those of transformers' modeling_rope_utils.
struct RopeScaling {
  RopeType type = RopeType::kDefault;
  double factor = 1.0;            // how many times longer
  double original_positions = 0;  // llama3, yarn: what the model was trained on
  double low_freq_factor = 1.0;   // llama3
  double high_freq_factor = 4.0;  // llama3
  double beta_fast = 32.0;        // yarn: rotations within original_positions above which a frequency stays
  double beta_slow = 1.0;         // yarn: rotations below which it is divided by `factor`
  double attention_factor = 1.0;  // yarn: cos and sin are multiplied by it
  bool truncate = true;           // yarn: the bounds between those two are whole dimensions
};

// `section`: rope_scaling, or rope_parameters of transformers 5. Another type than these four is a Problem.
RopeScaling ReadRopeScaling(JsonSection& section);

// `config` (a config.json) with its RoPE scaling replaced as the job file says, in whichever layout the file has:
// {"type": "yarn", "factor": 4, "original_positions": 32768, ...}. max_position_embeddings becomes factor x
// original_positions, which are those of config.json where the job does not give them. An empty object changes nothing.
nlohmann::json WithRopeScaling(nlohmann::json config, const nlohmann::json& job_scaling);

}  // namespace ithaca::plan

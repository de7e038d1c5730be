#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "worker/plan/problem.h"

namespace ithaca::plan {

enum class ModelFamily { kLlama, kQwen3 };

// RoPE frequencies rescaled as Llama 3.1 does it (config.json rope_scaling.rope_type "llama3").
struct Llama3RopeScaling {
  double factor = 8.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  double original_max_position_embeddings = 8192;
};

// The shape of a decoder-only model, from a Hugging Face config.json. Counts are elements, not bytes.
struct ModelConfig {
  ModelFamily family = ModelFamily::kLlama;
  int64_t hidden_size = 0;        // E
  int64_t intermediate_size = 0;  // of the MLP
  int64_t layers = 0;             // L
  int64_t query_heads = 0;        // Hq
  int64_t kv_heads = 0;           // Hkv
  int64_t head_dim = 0;           // D
  int64_t vocab_size = 0;         // V
  int64_t max_positions = 0;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;
  std::optional<Llama3RopeScaling> rope_scaling;
  bool tied_embeddings = false;
  bool qk_norm = false;  // Qwen3: RMSNorm over D of every query and key head
  std::optional<int64_t> eos_token_id;

  int64_t ParametersPerLayer() const;
  int64_t Parameters() const;  // all trained elements; a tied embedding counts once
  // Those that enter a matrix product per token: all but embeddings and norms, plus the head.
  int64_t MatmulParameters() const;
};

// Reads config.json (both the flat layout and `rope_parameters` of transformers 5). An architecture or option that the
// engine does not implement exactly (another model_type, attention_bias, mlp_bias, sliding windows, another activation
// or RoPE type, ...) is a Problem that names it.
ModelConfig ParseModelConfig(const nlohmann::json& config, Problems& problems);

}  // namespace ithaca::plan

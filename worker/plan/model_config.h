#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "worker/plan/problem.h"
#include "worker/plan/rope_scaling.h"

namespace ithaca::plan {

// The shape of a decoder-only model, from a Hugging Face config.json. Counts are elements, not bytes.
struct ModelConfig {
  std::string family;             // "Llama", as people call it
  int64_t hidden_size = 0;        // E
  int64_t intermediate_size = 0;  // of the MLP
  int64_t layers = 0;             // L
  int64_t query_heads = 0;        // Hq
  int64_t kv_heads = 0;           // Hkv
  int64_t head_dim = 0;           // D
  int64_t vocab_size = 0;         // V
  int64_t max_positions = 0;      // longest sequence, RoPE scaling counted in
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;
  RopeScaling rope_scaling;
  bool tied_embeddings = false;
  bool qk_norm = false;                // RMSNorm over D of every query and key head
  bool qkv_bias = false;               // of the query, key and value projections
  int64_t sliding_window = 0;          // keys a query sees in windowed layers, its own included; 0: there are none
  std::vector<bool> windowed_layers;   // empty: none
  std::vector<bool> unrotated_layers;  // layers without RoPE; empty: none
  std::optional<int64_t> eos_token_id;

  bool Rotates(int64_t layer) const { return unrotated_layers.empty() || !unrotated_layers[layer]; }
  bool Windowed(int64_t layer) const { return !windowed_layers.empty() && windowed_layers[layer]; }

  int64_t ParametersPerLayer() const;
  int64_t Parameters() const;  // all trained elements; a tied embedding counts once
  // Those that enter a matrix product per token: all but embeddings and norms, plus the head.
  int64_t MatmulParameters() const;
};

// Reads config.json (both the flat layout and `rope_parameters` of transformers 5). An architecture or option that the
// engine does not implement exactly (another model_type, an mlp_bias, another activation or RoPE type, ...) is a
// Problem that names it. The families are in model_family.h.
ModelConfig ParseModelConfig(const nlohmann::json& config, Problems& problems);

}  // namespace ithaca::plan

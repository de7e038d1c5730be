#pragma once

#include <string>

#include "worker/plan/json_section.h"
#include "worker/plan/model_config.h"

namespace ithaca::plan {

// An architecture of Hugging Face transformers: how its config.json differs from what all share, and what that makes of
// the shared decoder. One file each in families/; the engine knows only the switches of ModelConfig.
struct ModelFamily {
  const char* model_type;    // "qwen2"
  const char* architecture;  // "Qwen2ForCausalLM"
  const char* title;         // "Qwen2"
  double rope_theta;         // where config.json gives none
  bool tied_embeddings;      // the same
  // Reads what only this family has. The shape has been read; what cannot be run exactly becomes a Problem.
  void (*read)(JsonSection& section, ModelConfig& model);
};

const ModelFamily& Llama();
const ModelFamily& Mistral();
const ModelFamily& Qwen2();
const ModelFamily& Qwen3();
const ModelFamily& SmolLm3();

// By config.json's model_type; nullptr if there is none.
const ModelFamily* FindFamily(const std::string& model_type);
std::string FamilyNames();  // "llama, mistral, ..."

// Shared by families. The head size, where config.json gives none.
void DefaultHeadDim(JsonSection& section, ModelConfig& model);
// A switch that, when on, changes what the model computes.
void RefuseSwitch(JsonSection& section, const char* key);
// Which layers attend within a window: layer_types, or else those from `first_windowed` on. `window`: its tokens, of
// which 0 is none at all.
void ReadWindowedLayers(JsonSection& section, int64_t window, int64_t first_windowed, ModelConfig& model);
// As Qwen says it: a window of sliding_window tokens from layer max_window_layers on, if use_sliding_window is true.
void ReadSwitchedWindow(JsonSection& section, ModelConfig& model);

}  // namespace ithaca::plan

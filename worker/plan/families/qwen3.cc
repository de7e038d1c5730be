#include "worker/plan/model_family.h"

// Qwen3: every query and key head is normalized; heads have a size of their own.

namespace ithaca::plan {
namespace {

constexpr int64_t kDefaultHeadDim = 128, kDefaultWindow = 4096, kDefaultFirstWindowed = 28;  // Qwen3Config's

void Read(JsonSection& section, ModelConfig& model) {
  if (model.head_dim == 0) model.head_dim = kDefaultHeadDim;
  model.qk_norm = true;
  RefuseSwitch(section, "attention_bias");
  bool uses_window = false;
  int64_t window = kDefaultWindow, first_windowed = kDefaultFirstWindowed;
  section.Read("use_sliding_window", uses_window);
  section.Read("sliding_window", window, 1);
  section.Read("max_window_layers", first_windowed, 0);
  ReadWindowedLayers(section, uses_window ? window : 0, first_windowed, model);
}

}  // namespace

const ModelFamily& Qwen3() {
  static constexpr ModelFamily kFamily = {"qwen3", "Qwen3ForCausalLM", "Qwen3", 1e4, false, Read};
  return kFamily;
}

}  // namespace ithaca::plan

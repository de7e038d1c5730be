#include "worker/plan/model_family.h"

// Qwen2 and Qwen2.5: the query, key and value projections have a bias; windows where use_sliding_window says so.

namespace ithaca::plan {
namespace {

constexpr int64_t kDefaultWindow = 4096, kDefaultFirstWindowed = 28;  // Qwen2Config's

void Read(JsonSection& section, ModelConfig& model) {
  DefaultHeadDim(section, model);
  model.qkv_bias = true;
  bool uses_window = false;
  int64_t window = kDefaultWindow, first_windowed = kDefaultFirstWindowed;
  section.Read("use_sliding_window", uses_window);
  section.Read("sliding_window", window, 1);
  section.Read("max_window_layers", first_windowed, 0);
  ReadWindowedLayers(section, uses_window ? window : 0, first_windowed, model);
}

}  // namespace

const ModelFamily& Qwen2() {
  static constexpr ModelFamily kFamily = {"qwen2", "Qwen2ForCausalLM", "Qwen2", 1e4, false, Read};
  return kFamily;
}

}  // namespace ithaca::plan

#include <nlohmann/json.hpp>

#include "worker/plan/model_family.h"

// SmolLM3: some layers (every fourth by default) do not rotate queries and keys.

namespace ithaca::plan {
namespace {

constexpr int64_t kDefaultInterval = 4;  // SmolLM3Config's no_rope_layer_interval

void Read(JsonSection& section, ModelConfig& model) {
  DefaultHeadDim(section, model);
  RefuseSwitch(section, "attention_bias");
  RefuseSwitch(section, "mlp_bias");
  int64_t interval = kDefaultInterval;
  section.Read("no_rope_layer_interval", interval, 1);
  model.unrotated_layers.resize(model.layers);
  for (int64_t layer = 0; layer < model.layers; ++layer) model.unrotated_layers[layer] = (layer + 1) % interval == 0;
  if (const nlohmann::json* layers = section.Get("no_rope_layers"); layers != nullptr) {
    if (!layers->is_array() || static_cast<int64_t>(layers->size()) < model.layers) {
      section.AddProblem("no_rope_layers", "must be a list of a 1 (RoPE) or 0 (none) for each layer");
      return;
    }
    for (int64_t layer = 0; layer < model.layers; ++layer) model.unrotated_layers[layer] = (*layers)[layer] == 0;
  }
  bool uses_window = false;
  int64_t window = 0;
  section.Read("use_sliding_window", uses_window);
  section.Read("sliding_window", window, 1);
  if (uses_window && window > 0 && !section.Has("layer_types")) {
    section.AddProblem("use_sliding_window", "true without layer_types is not supported");
  }
  ReadWindowedLayers(section, uses_window ? window : 0, model.layers, model);
}

}  // namespace

const ModelFamily& SmolLm3() {
  static constexpr ModelFamily kFamily = {"smollm3", "SmolLM3ForCausalLM", "SmolLM3", 2e6, true, Read};
  return kFamily;
}

}  // namespace ithaca::plan

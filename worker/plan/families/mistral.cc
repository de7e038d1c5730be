#include "worker/plan/model_family.h"

// Mistral: every layer attends within a window, unless config.json says null.

namespace ithaca::plan {
namespace {

constexpr int64_t kDefaultWindow = 4096;  // MistralConfig's, where config.json has no such key

void Read(JsonSection& section, ModelConfig& model) {
  DefaultHeadDim(section, model);
  RefuseSwitch(section, "attention_bias");
  RefuseSwitch(section, "mlp_bias");
  int64_t window = section.IsNull("sliding_window") ? 0 : kDefaultWindow;
  section.Read("sliding_window", window, 1);
  if (section.Has("layer_types")) section.AddProblem("layer_types", "is not part of a mistral model");
  ReadWindowedLayers(section, window, 0, model);
}

}  // namespace

const ModelFamily& Mistral() {
  static constexpr ModelFamily kFamily = {"mistral", "MistralForCausalLM", "Mistral", 1e4, false, Read};
  return kFamily;
}

}  // namespace ithaca::plan

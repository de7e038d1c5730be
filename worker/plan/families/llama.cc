#include "worker/plan/model_family.h"

// Llama 2 and 3, and what else calls itself llama, such as SmolLM2.

namespace ithaca::plan {
namespace {

void Read(JsonSection& section, ModelConfig& model) {
  DefaultHeadDim(section, model);
  RefuseSwitch(section, "attention_bias");
  RefuseSwitch(section, "mlp_bias");
  RefuseSwitch(section, "rope_interleaved");
  if (section.Has("sliding_window")) section.AddProblem("sliding_window", "is not part of a llama model");
  ReadWindowedLayers(section, 0, 0, model);
}

}  // namespace

const ModelFamily& Llama() {
  static constexpr ModelFamily kFamily = {"llama", "LlamaForCausalLM", "Llama", 1e4, false, Read};
  return kFamily;
}

}  // namespace ithaca::plan

#include "worker/plan/model_family.h"

// Qwen3: every query and key head is normalized; heads have a size of their own.

namespace ithaca::plan {
namespace {

constexpr int64_t kDefaultHeadDim = 128;  // Qwen3Config's

void Read(JsonSection& section, ModelConfig& model) {
  if (model.head_dim == 0) model.head_dim = kDefaultHeadDim;
  model.qk_norm = true;
  RefuseSwitch(section, "attention_bias");
  ReadSwitchedWindow(section, model);
}

}  // namespace

const ModelFamily& Qwen3() {
  static constexpr ModelFamily kFamily = {"qwen3", "Qwen3ForCausalLM", "Qwen3", 1e4, false, Read};
  return kFamily;
}

}  // namespace ithaca::plan

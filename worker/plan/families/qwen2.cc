#include "worker/plan/model_family.h"

// Qwen2 and Qwen2.5: the query, key and value projections have a bias; windows where use_sliding_window says so.

namespace ithaca::plan {
namespace {

void Read(JsonSection& section, ModelConfig& model) {
  DefaultHeadDim(section, model);
  model.qkv_bias = true;
  ReadSwitchedWindow(section, model);
}

}  // namespace

const ModelFamily& Qwen2() {
  static constexpr ModelFamily kFamily = {"qwen2", "Qwen2ForCausalLM", "Qwen2", 1e4, false, Read};
  return kFamily;
}

}  // namespace ithaca::plan

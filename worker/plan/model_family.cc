#include "worker/plan/model_family.h"

#include <nlohmann/json.hpp>

namespace ithaca::plan {
namespace {

const ModelFamily* const kFamilies[] = {&Llama(), &Mistral(), &Qwen2(), &Qwen3(), &SmolLm3()};

}  // namespace

const ModelFamily* FindFamily(const std::string& model_type) {
  for (const ModelFamily* family : kFamilies) {
    if (model_type == family->model_type) return family;
  }
  return nullptr;
}

std::string FamilyNames() {
  std::string names;
  for (const ModelFamily* family : kFamilies) {
    if (!names.empty()) names += ", ";
    names += family->model_type;
  }
  return names;
}

void DefaultHeadDim(JsonSection& section, ModelConfig& model) {
  if (model.head_dim > 0 || model.query_heads == 0) return;
  if (model.hidden_size % model.query_heads != 0) {
    section.AddProblem("hidden_size", "is not a multiple of num_attention_heads, and head_dim is not given");
  }
  model.head_dim = model.hidden_size / model.query_heads;
}

void RefuseSwitch(JsonSection& section, const char* key) {
  bool on = false;
  section.Read(key, on);
  if (on) section.AddProblem(key, "true is not supported");
}

void ReadWindowedLayers(JsonSection& section, int64_t window, int64_t first_windowed, ModelConfig& model) {
  std::vector<bool> windowed(model.layers);
  for (int64_t layer = 0; layer < model.layers; ++layer) windowed[layer] = window > 0 && layer >= first_windowed;
  if (const nlohmann::json* types = section.Get("layer_types"); types != nullptr) {
    if (!types->is_array() || static_cast<int64_t>(types->size()) != model.layers) {
      section.AddProblem("layer_types",
                         "must be a list of one type for each of the " + std::to_string(model.layers) + " layers");
      return;
    }
    for (int64_t layer = 0; layer < model.layers; ++layer) {
      const std::string type = (*types)[layer].dump();
      windowed[layer] = type == R"("sliding_attention")";
      if (!windowed[layer] && type != R"("full_attention")") {
        section.AddProblem("layer_types", type + " is not supported");
      }
      if (windowed[layer] && window == 0) {
        section.AddProblem("layer_types", "has sliding_attention, but no sliding window is in use");
        return;
      }
    }
  }
  bool any = false;
  for (const bool layer : windowed) any = any || layer;
  if (!any) return;
  model.sliding_window = window;
  model.windowed_layers = windowed;
}

void ReadSwitchedWindow(JsonSection& section, ModelConfig& model) {
  bool uses_window = false;
  int64_t window = 4096, first_windowed = 28;  // defaults of Qwen2Config and Qwen3Config
  section.Read("use_sliding_window", uses_window);
  section.Read("sliding_window", window, 1);
  section.Read("max_window_layers", first_windowed, 0);
  ReadWindowedLayers(section, uses_window ? window : 0, first_windowed, model);
}

}  // namespace ithaca::plan

#include "worker/plan/model_config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "worker/plan/json_section.h"
#include "worker/plan/model_family.h"

namespace ithaca::plan {
namespace {

using nlohmann::json;

constexpr int64_t kMost = int64_t{1} << 40;

void Require(JsonSection& section, const std::string& key, int64_t& out) {
  section.Read(key, out, 1, kMost);
  if (!section.Has(key)) section.AddProblem(key, "is missing from config.json");
}

// Refuses a number other than the one at which the option does nothing.
void RefuseUnless(JsonSection& section, const std::string& key, double neutral) {
  const json* value = section.Get(key);
  if (value != nullptr && (!value->is_number() || value->get<double>() != neutral)) {
    section.AddProblem(key, value->dump() + " is not supported");
  }
}

// What any of the families' config.json may carry; anything but the plain decoder is another model.
void RefuseVariants(JsonSection& section) {
  RefuseUnless(section, "pretraining_tp", 1);
  RefuseUnless(section, "attention_dropout", 0);
  RefuseUnless(section, "partial_rotary_factor", 1);
  if (section.Has("quantization_config")) {
    section.AddProblem("quantization_config", "quantized weights are not supported");
  }
  std::string activation = "silu";
  section.Read("hidden_act", activation);
  if (activation != "silu") section.AddProblem("hidden_act", "'" + activation + "' is not supported, only silu");
}

// `section` is rope_scaling, or rope_parameters of transformers 5, which holds rope_theta too.
void ReadRope(JsonSection section, ModelConfig& model) {
  section.Read("rope_theta", model.rope_theta, 1.0, 1e12);
  RefuseUnless(section, "partial_rotary_factor", 1);
  if (section.Has("full_attention")) {
    section.AddProblem("full_attention", "RoPE parameters per layer type are not supported");
  }
  const RopeScaling scaling = ReadRopeScaling(section);
  if (scaling.type == RopeType::kDefault) return;
  model.rope_scaling = scaling;
  const auto reach = static_cast<int64_t>(std::llround(scaling.factor * scaling.original_positions));
  model.max_positions = std::max(model.max_positions, reach);
}

const ModelFamily* ReadFamily(JsonSection& section, ModelConfig& model) {
  std::string type;
  section.Read("model_type", type);
  const ModelFamily* family = FindFamily(type);
  if (family == nullptr) {
    section.AddProblem("model_type", "'" + type + "' is not supported, only " + FamilyNames());
    return nullptr;
  }
  const json* architectures = section.Get("architectures");
  if (architectures != nullptr && *architectures != json::array({family->architecture})) {
    section.AddProblem("architectures", architectures->dump() + " is not supported, only " + family->architecture);
  }
  model.family = family->title;
  model.rope_theta = family->rope_theta;
  model.tied_embeddings = family->tied_embeddings;
  return family;
}

void ReadShape(JsonSection& section, ModelConfig& model) {
  Require(section, "hidden_size", model.hidden_size);
  Require(section, "intermediate_size", model.intermediate_size);
  Require(section, "num_hidden_layers", model.layers);
  Require(section, "num_attention_heads", model.query_heads);
  Require(section, "vocab_size", model.vocab_size);
  Require(section, "max_position_embeddings", model.max_positions);
  section.Read("rms_norm_eps", model.rms_norm_eps, 0.0, 1.0);
  section.Read("tie_word_embeddings", model.tied_embeddings);
  if (model.query_heads == 0) return;
  model.kv_heads = model.query_heads;
  section.Read("num_key_value_heads", model.kv_heads, 1, kMost);
  if (model.query_heads % model.kv_heads != 0) {
    section.AddProblem("num_key_value_heads", std::to_string(model.kv_heads) + " does not divide the " +
                                                  std::to_string(model.query_heads) + " attention heads");
  }
  section.Read("head_dim", model.head_dim, 1, kMost);
}

void ReadEosToken(JsonSection& section, ModelConfig& model) {
  const json* value = section.Get("eos_token_id");
  if (value == nullptr) return;
  // Of several, the first ends a text; the others end a chat turn.
  const json& first = value->is_array() && !value->empty() ? value->front() : *value;
  if (!first.is_number_integer()) {
    section.AddProblem("eos_token_id", "must be a token id or a list of them, not " + value->dump());
  } else if (const int64_t id = first.get<int64_t>(); id < 0 || id >= model.vocab_size) {
    section.AddProblem("eos_token_id", std::to_string(id) + " is outside the vocabulary");
  } else {
    model.eos_token_id = id;
  }
}

int64_t LayerMatrixElements(const ModelConfig& model) {
  const int64_t query_width = model.query_heads * model.head_dim;
  const int64_t kv_width = model.kv_heads * model.head_dim;
  return model.hidden_size * (2 * query_width + 2 * kv_width + 3 * model.intermediate_size);
}

}  // namespace

int64_t ModelConfig::ParametersPerLayer() const {
  return LayerMatrixElements(*this) + 2 * hidden_size + (qk_norm ? 2 * head_dim : 0) +
         (qkv_bias ? (query_heads + 2 * kv_heads) * head_dim : 0);
}

int64_t ModelConfig::Parameters() const {
  return layers * ParametersPerLayer() + hidden_size + (tied_embeddings ? 1 : 2) * vocab_size * hidden_size;
}

int64_t ModelConfig::MatmulParameters() const { return layers * LayerMatrixElements(*this) + vocab_size * hidden_size; }

ModelConfig ParseModelConfig(const json& config, Problems& problems) {
  ModelConfig model;
  const size_t problems_before = problems.size();
  JsonSection section(&config, "config.json", problems);
  if (problems.size() > problems_before) return model;
  const ModelFamily* family = ReadFamily(section, model);
  if (family == nullptr) return model;
  RefuseVariants(section);
  ReadShape(section, model);
  if (problems.size() == problems_before) family->read(section, model);
  if (model.head_dim % 2 != 0) section.AddProblem("head_dim", "must be even: RoPE turns pairs");
  section.Read("rope_theta", model.rope_theta, 1.0, 1e12);
  ReadRope(section.Child("rope_scaling"), model);
  ReadRope(section.Child("rope_parameters"), model);
  ReadEosToken(section, model);
  return model;
}

}  // namespace ithaca::plan

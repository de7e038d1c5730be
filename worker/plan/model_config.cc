#include "worker/plan/model_config.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "worker/plan/json_section.h"

namespace ithaca::plan {
namespace {

using nlohmann::json;

constexpr int64_t kMost = int64_t{1} << 40;

void Require(JsonSection& section, const std::string& key, int64_t& out) {
  section.Read(key, out, 1, kMost);
  if (!section.Has(key)) section.AddProblem(key, "is missing from config.json");
}

// Refuses a switch that, when on, changes what the model computes.
void RefuseSwitch(JsonSection& section, const std::string& key) {
  bool on = false;
  section.Read(key, on);
  if (on) section.AddProblem(key, "true is not supported");
}

// Refuses a number other than the one at which the option does nothing.
void RefuseUnless(JsonSection& section, const std::string& key, double neutral) {
  const json* value = section.Get(key);
  if (value != nullptr && (!value->is_number() || value->get<double>() != neutral)) {
    section.AddProblem(key, value->dump() + " is not supported");
  }
}

// A llama or qwen3 config.json may carry these; anything but the plain decoder is another model.
void RefuseVariants(JsonSection& section) {
  for (const char* key : {"attention_bias", "mlp_bias", "use_sliding_window", "rope_interleaved"}) {
    RefuseSwitch(section, key);
  }
  RefuseUnless(section, "pretraining_tp", 1);
  RefuseUnless(section, "attention_dropout", 0);
  RefuseUnless(section, "partial_rotary_factor", 1);
  if (section.Has("quantization_config")) {
    section.AddProblem("quantization_config", "quantized weights are not supported");
  }
  std::string activation = "silu";
  section.Read("hidden_act", activation);
  if (activation != "silu") section.AddProblem("hidden_act", "'" + activation + "' is not supported, only silu");
  // Qwen3 states a window and switches it off beside it; a window without a switch is in use.
  if (section.Has("sliding_window") && !section.Has("use_sliding_window")) {
    section.AddProblem("sliding_window", "sliding windows are not supported");
  }
  if (const json* types = section.Get("layer_types"); types != nullptr) {
    for (const json& type : *types) {
      if (type != "full_attention") section.AddProblem("layer_types", type.dump() + " is not supported");
    }
  }
}

// `scaling` is rope_scaling, or rope_parameters of transformers 5, which holds rope_theta too.
void ReadRope(JsonSection scaling, ModelConfig& model) {
  std::string type = "default";
  scaling.Read("type", type);  // older files
  scaling.Read("rope_type", type);
  scaling.Read("rope_theta", model.rope_theta, 1.0, 1e12);
  RefuseUnless(scaling, "partial_rotary_factor", 1);
  if (scaling.Has("full_attention")) {
    scaling.AddProblem("full_attention", "RoPE parameters per layer type are not supported");
  }
  if (type == "llama3") {
    Llama3RopeScaling llama3;
    scaling.Read("factor", llama3.factor, 1.0, 1e6);
    scaling.Read("low_freq_factor", llama3.low_freq_factor, 1e-6, 1e6);
    scaling.Read("high_freq_factor", llama3.high_freq_factor, 1e-6, 1e6);
    scaling.Read("original_max_position_embeddings", llama3.original_max_position_embeddings, 1.0, 1e12);
    for (const char* key : {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
      if (!scaling.Has(key)) scaling.AddProblem(key, "is missing");
    }
    if (llama3.high_freq_factor <= llama3.low_freq_factor) {
      scaling.AddProblem("high_freq_factor", "must be above low_freq_factor");
    }
    model.rope_scaling = llama3;
  } else if (type != "default") {
    scaling.AddProblem("rope_type", "'" + type + "' is not supported, only default and llama3");
  }
}

bool ReadFamily(JsonSection& section, ModelConfig& model) {
  std::string type;
  section.Read("model_type", type);
  if (type != "llama" && type != "qwen3") {
    section.AddProblem("model_type", "'" + type + "' is not supported, only llama and qwen3");
    return false;
  }
  model.family = type == "llama" ? ModelFamily::kLlama : ModelFamily::kQwen3;
  model.qk_norm = model.family == ModelFamily::kQwen3;
  const std::string expected = type == "llama" ? "LlamaForCausalLM" : "Qwen3ForCausalLM";
  const json* architectures = section.Get("architectures");
  if (architectures != nullptr && *architectures != json::array({expected})) {
    section.AddProblem("architectures", architectures->dump() + " is not supported, only " + expected);
  }
  return true;
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
  const bool has_head_dim = section.Has("head_dim");
  section.Read("head_dim", model.head_dim, 1, kMost);
  if (!has_head_dim && model.family == ModelFamily::kQwen3) model.head_dim = 128;  // Qwen3Config's default
  if (!has_head_dim && model.family == ModelFamily::kLlama) {
    if (model.hidden_size % model.query_heads != 0) {
      section.AddProblem("hidden_size", "is not a multiple of num_attention_heads, and head_dim is not given");
    }
    model.head_dim = model.hidden_size / model.query_heads;
  }
  if (model.head_dim % 2 != 0) section.AddProblem("head_dim", "must be even: RoPE turns pairs");
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
  return LayerMatrixElements(*this) + 2 * hidden_size + (qk_norm ? 2 * head_dim : 0);
}

int64_t ModelConfig::Parameters() const {
  return layers * ParametersPerLayer() + hidden_size + (tied_embeddings ? 1 : 2) * vocab_size * hidden_size;
}

int64_t ModelConfig::MatmulParameters() const { return layers * LayerMatrixElements(*this) + vocab_size * hidden_size; }

ModelConfig ParseModelConfig(const json& config, Problems& problems) {
  ModelConfig model;
  const size_t problems_before = problems.size();
  JsonSection section(&config, "config.json", problems);
  if (problems.size() > problems_before || !ReadFamily(section, model)) return model;
  RefuseVariants(section);
  ReadShape(section, model);
  section.Read("rope_theta", model.rope_theta, 1.0, 1e12);
  ReadRope(section.Child("rope_scaling"), model);
  ReadRope(section.Child("rope_parameters"), model);
  ReadEosToken(section, model);
  return model;
}

}  // namespace ithaca::plan

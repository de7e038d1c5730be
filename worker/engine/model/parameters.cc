#include "worker/engine/model/parameters.h"

#include <ATen/ATen.h>

#include <sstream>

#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

constexpr int64_t kPartElements = 64;  // a part is a multiple of this

int64_t Elements(const std::vector<int64_t>& shape) {
  int64_t elements = 1;
  for (const int64_t size : shape) elements *= size;
  return elements;
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::ostringstream text;
  text << at::IntArrayRef(shape);
  return text.str();
}

void AddLayerMatrices(const plan::ModelConfig& c, const std::string& layer, std::vector<ParameterSpec>& specs) {
  specs.push_back({layer + "self_attn.q_proj.weight", {c.query_heads * c.head_dim, c.hidden_size}});
  specs.push_back({layer + "self_attn.k_proj.weight", {c.kv_heads * c.head_dim, c.hidden_size}});
  specs.push_back({layer + "self_attn.v_proj.weight", {c.kv_heads * c.head_dim, c.hidden_size}});
  specs.push_back({layer + "self_attn.o_proj.weight", {c.hidden_size, c.query_heads * c.head_dim}});
  specs.push_back({layer + "mlp.gate_proj.weight", {c.intermediate_size, c.hidden_size}});
  specs.push_back({layer + "mlp.up_proj.weight", {c.intermediate_size, c.hidden_size}});
  specs.push_back({layer + "mlp.down_proj.weight", {c.hidden_size, c.intermediate_size}});
}

}  // namespace

std::vector<ParameterSpec> ParameterSpecs(const plan::ModelConfig& config) {
  std::vector<ParameterSpec> specs;
  const auto layer_prefix = [](int64_t layer) { return "model.layers." + std::to_string(layer) + "."; };
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    specs.push_back({layer_prefix(layer) + "input_layernorm.weight", {config.hidden_size}});
    specs.push_back({layer_prefix(layer) + "post_attention_layernorm.weight", {config.hidden_size}});
    if (config.qk_norm) {
      specs.push_back({layer_prefix(layer) + "self_attn.q_norm.weight", {config.head_dim}});
      specs.push_back({layer_prefix(layer) + "self_attn.k_norm.weight", {config.head_dim}});
    }
    if (config.qkv_bias) {
      specs.push_back({layer_prefix(layer) + "self_attn.q_proj.bias", {config.query_heads * config.head_dim}});
      specs.push_back({layer_prefix(layer) + "self_attn.k_proj.bias", {config.kv_heads * config.head_dim}});
      specs.push_back({layer_prefix(layer) + "self_attn.v_proj.bias", {config.kv_heads * config.head_dim}});
    }
  }
  specs.push_back({"model.norm.weight", {config.hidden_size}});
  specs.push_back({"model.embed_tokens.weight", {config.vocab_size, config.hidden_size}});
  for (int64_t layer = 0; layer < config.layers; ++layer) AddLayerMatrices(config, layer_prefix(layer), specs);
  if (!config.tied_embeddings) specs.push_back({"lm_head.weight", {config.vocab_size, config.hidden_size}});
  return specs;
}

Parameters::Parameters(const plan::ModelConfig& config, at::ScalarType dtype, at::Device device, int64_t parts)
    : specs_(ParameterSpecs(config)) {
  offsets_.push_back(0);
  for (size_t i = 0; i < specs_.size(); ++i) {
    index_of_[specs_[i].name] = i;
    offsets_.push_back(offsets_.back() + Elements(specs_[i].shape));
    if (specs_[i].shape.size() == 1) vector_elements_ = offsets_.back();
  }
  if (config.tied_embeddings) index_of_["lm_head.weight"] = index_of_.at("model.embed_tokens.weight");
  const int64_t unit = parts > 1 ? parts * kPartElements : 1;
  const int64_t padded = (offsets_.back() + unit - 1) / unit * unit;
  weights_ = at::empty({padded}, at::TensorOptions().dtype(dtype).device(device));
  weights_.narrow(0, offsets_.back(), padded - offsets_.back()).zero_();
  gradients_ = at::zeros({padded}, at::TensorOptions().dtype(at::kFloat).device(device));
}

void Parameters::Load(const WeightFiles& files) {
  for (const ParameterSpec& spec : specs_) {
    if (!files.Has(spec.name)) {
      throw EngineError(plan::ExitCode::kInvalidModel,
                        "the model's weights lack " + spec.name + ", which its config.json asks for");
    }
    if (files.Shape(spec.name) != spec.shape) {
      throw EngineError(plan::ExitCode::kInvalidModel, "the shape of " + spec.name + " is " +
                                                           ShapeText(files.Shape(spec.name)) +
                                                           ", but config.json says " + ShapeText(spec.shape));
    }
  }
  for (const std::string& name : files.names()) {
    if (index_of_.count(name) == 0 && !name.ends_with("rotary_emb.inv_freq")) {
      throw EngineError(plan::ExitCode::kInvalidModel,
                        "the model's weights have " + name + ", which its config.json does not ask for");
    }
  }
  for (const ParameterSpec& spec : specs_) Weight(spec.name).copy_(files.Load(spec.name));
}

NamedTensors Parameters::Views(const at::Tensor& flat, const std::string& suffix) const {
  NamedTensors views;
  for (const ParameterSpec& spec : specs_) views.emplace_back(spec.name + suffix, View(flat, spec.name));
  return views;
}

at::Tensor Parameters::View(const at::Tensor& flat, const std::string& name) const {
  const size_t i = index_of_.at(name);
  return flat.narrow(0, offsets_[i], offsets_[i + 1] - offsets_[i]).view(specs_[i].shape);
}

at::Tensor Parameters::Stacked(const at::Tensor& flat, const std::vector<std::string>& names) const {
  const size_t first = index_of_.at(names.front());
  const size_t last = index_of_.at(names.back());
  TORCH_CHECK(last - first + 1 == names.size(), "tensors are not adjacent");
  std::vector<int64_t> shape = specs_[first].shape;
  shape[0] = -1;
  return flat.narrow(0, offsets_[first], offsets_[last + 1] - offsets_[first]).view(shape);
}

}  // namespace ithaca::engine

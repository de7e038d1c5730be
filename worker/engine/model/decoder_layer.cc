#include "worker/engine/model/decoder_layer.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "worker/engine/model/layer_ops.h"
#include "worker/engine/model/linear.h"

namespace ithaca::engine {

DecoderLayer::DecoderLayer(const plan::ModelConfig& config, const Parameters& parameters, int64_t index,
                           UlyssesAttention& attention, Workspace& workspace, LayerOptions options)
    : config_(config), options_(options), attention_(attention), workspace_(workspace) {
  const std::string layer = "model.layers." + std::to_string(index) + ".";
  const std::string self = layer + "self_attn.";
  const std::vector<std::string> qkv = {self + "q_proj.weight", self + "k_proj.weight", self + "v_proj.weight"};
  const std::vector<std::string> qkv_bias = {self + "q_proj.bias", self + "k_proj.bias", self + "v_proj.bias"};
  const std::vector<std::string> gate_up = {layer + "mlp.gate_proj.weight", layer + "mlp.up_proj.weight"};
  const auto collect = [&](const auto& one, const auto& stacked) {
    return Tensors{.input_norm = one(layer + "input_layernorm.weight"),
                   .qkv = stacked(qkv),
                   .qkv_bias = config.qkv_bias ? stacked(qkv_bias) : at::Tensor(),
                   .q_norm = config.qk_norm ? one(self + "q_norm.weight") : at::Tensor(),
                   .k_norm = config.qk_norm ? one(self + "k_norm.weight") : at::Tensor(),
                   .output = one(self + "o_proj.weight"),
                   .post_norm = one(layer + "post_attention_layernorm.weight"),
                   .gate_up = stacked(gate_up),
                   .down = one(layer + "mlp.down_proj.weight")};
  };
  weights_ = collect([&](const std::string& name) { return parameters.Weight(name); },
                     [&](const auto& names) { return parameters.StackedWeight(names); });
  gradients_ = collect([&](const std::string& name) { return parameters.Gradient(name); },
                       [&](const auto& names) { return parameters.StackedGradient(names); });
}

void DecoderLayer::Forward(const at::Tensor& x_SE, const LayerBatch& batch, LayerState& state, at::Tensor& out_SE) {
  const at::Tensor attended_SHD = Attend(x_SE, batch, state);
  AfterAttention(x_SE, attended_SHD.reshape({x_SE.size(0), -1}), state, out_SE);
}

at::Tensor DecoderLayer::Attend(const at::Tensor& x_SE, const LayerBatch& batch, LayerState& state) {
  const int64_t heads = config_.query_heads + 2 * config_.kv_heads;
  const std::vector<int64_t> qkv_shape = {x_SE.size(0), heads, config_.head_dim};
  at::Tensor qkv_SHD = options_.keep_activations ? at::empty(qkv_shape, x_SE.options()) : Scratch("qkv", qkv_shape);
  ComputeQkv(Normalize(x_SE, weights_.input_norm), batch.rope, qkv_SHD);
  return attention_.Forward(qkv_SHD, {batch.documents, options_.window}, options_.keep_activations, state.attention);
}

void DecoderLayer::Backward(const at::Tensor& x_SE, const LayerBatch& batch, LayerState& state, at::Tensor& d_SE) {
  const int64_t tokens = x_SE.size(0);
  const at::Tensor attended_SE = attention_.OutputFromState(state.attention).reshape({tokens, -1});
  const at::Tensor d_attended_SE = AfterAttentionBackward(x_SE, attended_SE, state, d_SE);

  const at::Tensor normalized_SE = Normalize(x_SE, weights_.input_norm);
  at::Tensor qkv_SHD;
  if (!state.attention.qkv_THD.defined() || config_.qk_norm) {
    qkv_SHD = Scratch("qkv", {tokens, config_.query_heads + 2 * config_.kv_heads, config_.head_dim});
    ComputeQkv(normalized_SE, batch.rope, qkv_SHD);
  }
  at::Tensor d_qkv_SHD = attention_.Backward(d_attended_SE.view({tokens, config_.query_heads, config_.head_dim}),
                                             qkv_SHD, {batch.documents, options_.window}, state.attention);
  BeforeAttentionBackward(x_SE, normalized_SE, batch.rope, d_qkv_SHD, d_SE);
  state = LayerState();
}

at::Tensor DecoderLayer::Normalize(const at::Tensor& x_SE, const at::Tensor& weight_E) {
  at::Tensor normalized_SE = Scratch("normalized", x_SE.sizes());
  at::Tensor rstd_S = workspace_.Get("rstd", {x_SE.size(0)}, at::kFloat);
  RmsNorm(x_SE, weight_E, config_.rms_norm_eps, normalized_SE, rstd_S);
  return normalized_SE;
}

void DecoderLayer::ComputeQkv(const at::Tensor& normalized_SE, const RopeTable& rope, at::Tensor& qkv_SHD) {
  at::Tensor raw_SHD = config_.qk_norm ? Scratch("qkv_raw", qkv_SHD.sizes()) : qkv_SHD;
  at::Tensor flat = raw_SHD.view({raw_SHD.size(0), -1});
  if (config_.qkv_bias) {
    LinearAdd(weights_.qkv_bias.expand_as(flat), normalized_SE, weights_.qkv, flat);
  } else {
    Linear(normalized_SE, weights_.qkv, flat);
  }
  if (config_.qk_norm) NormalizeHeads(raw_SHD, qkv_SHD);
  if (options_.rotates) ApplyRope(qkv_SHD, config_.query_heads + config_.kv_heads, rope, /*inverse=*/false);
}

// Qwen3: every query and key head is normalized over D; value heads pass.
void DecoderLayer::NormalizeHeads(const at::Tensor& raw_SHD, at::Tensor& qkv_SHD) {
  const int64_t q = config_.query_heads;
  const int64_t k = config_.kv_heads;
  at::Tensor q_out = qkv_SHD.narrow(1, 0, q);
  at::Tensor k_out = qkv_SHD.narrow(1, q, k);
  at::Tensor rstd_q = workspace_.Get("rstd_q", {raw_SHD.size(0), q}, at::kFloat);
  at::Tensor rstd_k = workspace_.Get("rstd_k", {raw_SHD.size(0), k}, at::kFloat);
  RmsNorm(raw_SHD.narrow(1, 0, q), weights_.q_norm, config_.rms_norm_eps, q_out, rstd_q);
  RmsNorm(raw_SHD.narrow(1, q, k), weights_.k_norm, config_.rms_norm_eps, k_out, rstd_k);
  qkv_SHD.narrow(1, q + k, k).copy_(raw_SHD.narrow(1, q + k, k));
}

// The gradient before the heads' norm, from that after it; what NormalizeHeads left in the workspace is still there.
at::Tensor DecoderLayer::NormalizeHeadsBackward(const at::Tensor& d_qkv_SHD) {
  const int64_t q = config_.query_heads;
  const int64_t k = config_.kv_heads;
  const int64_t tokens = d_qkv_SHD.size(0);
  const at::Tensor raw_SHD = Scratch("qkv_raw", d_qkv_SHD.sizes());
  at::Tensor d_raw_SHD = Scratch("d_qkv_raw", d_qkv_SHD.sizes()).zero_();
  at::Tensor d_q = d_raw_SHD.narrow(1, 0, q);
  at::Tensor d_k = d_raw_SHD.narrow(1, q, k);
  RmsNormBackward(d_qkv_SHD.narrow(1, 0, q), raw_SHD.narrow(1, 0, q), weights_.q_norm,
                  workspace_.Get("rstd_q", {tokens, q}, at::kFloat), d_q, gradients_.q_norm);
  RmsNormBackward(d_qkv_SHD.narrow(1, q, k), raw_SHD.narrow(1, q, k), weights_.k_norm,
                  workspace_.Get("rstd_k", {tokens, k}, at::kFloat), d_k, gradients_.k_norm);
  d_raw_SHD.narrow(1, q + k, k).copy_(d_qkv_SHD.narrow(1, q + k, k));
  return d_raw_SHD;
}

void DecoderLayer::BeforeAttentionBackward(const at::Tensor& x_SE, const at::Tensor& normalized_SE,
                                           const RopeTable& rope, at::Tensor& d_qkv_SHD, at::Tensor& d_SE) {
  if (options_.rotates) ApplyRope(d_qkv_SHD, config_.query_heads + config_.kv_heads, rope, /*inverse=*/true);
  const at::Tensor d_raw_SHD = config_.qk_norm ? NormalizeHeadsBackward(d_qkv_SHD) : d_qkv_SHD;
  const at::Tensor d_flat = d_raw_SHD.reshape({x_SE.size(0), -1});
  AddLinearWeightGradient(d_flat, normalized_SE, gradients_.qkv);
  if (config_.qkv_bias) gradients_.qkv_bias.add_(d_flat.sum({0}, /*keepdim=*/false, at::kFloat));
  at::Tensor d_normalized_SE = Scratch("d_normalized", x_SE.sizes());
  LinearInputGradient(d_flat, weights_.qkv, d_normalized_SE);
  RmsNormBackward(d_normalized_SE, x_SE, weights_.input_norm, workspace_.Get("rstd", {x_SE.size(0)}, at::kFloat), d_SE,
                  gradients_.input_norm);
}

void DecoderLayer::AfterAttention(const at::Tensor& x_SE, const at::Tensor& attended_SE, LayerState& state,
                                  at::Tensor& out_SE) {
  const int64_t tokens = x_SE.size(0);
  const int64_t width = config_.intermediate_size;
  at::Tensor hidden_SE = options_.keep_activations ? at::empty_like(x_SE) : Scratch("hidden", x_SE.sizes());
  LinearAdd(x_SE, attended_SE, weights_.output, hidden_SE);
  const at::Tensor normalized_SE = Normalize(hidden_SE, weights_.post_norm);
  if (options_.keep_activations) {
    state.hidden_SE = hidden_SE;
    state.gate_up_S2I = at::empty({tokens, 2 * width}, x_SE.options());
  }
  const int64_t tile = TileTokens(tokens);
  for (int64_t begin = 0; begin < tokens; begin += tile) {
    const int64_t count = std::min(tile, tokens - begin);
    at::Tensor gate_up =
        options_.keep_activations ? state.gate_up_S2I.narrow(0, begin, count) : Scratch("gate_up", {count, 2 * width});
    at::Tensor activated = Scratch("activated", {count, width});
    at::Tensor out = out_SE.narrow(0, begin, count);
    Linear(normalized_SE.narrow(0, begin, count), weights_.gate_up, gate_up);
    SwiGlu(gate_up, activated);
    LinearAdd(hidden_SE.narrow(0, begin, count), activated, weights_.down, out);
  }
}

// d_SE: gradient of the layer's output in, of the residual stream before the output projection out. Returns the
// gradient of attended_SE.
at::Tensor DecoderLayer::AfterAttentionBackward(const at::Tensor& x_SE, const at::Tensor& attended_SE,
                                                LayerState& state, at::Tensor& d_SE) {
  at::Tensor hidden_SE = state.hidden_SE;
  if (!hidden_SE.defined()) {
    hidden_SE = Scratch("hidden", x_SE.sizes());
    LinearAdd(x_SE, attended_SE, weights_.output, hidden_SE);
  }
  const at::Tensor normalized_SE = Normalize(hidden_SE, weights_.post_norm);
  at::Tensor d_normalized_SE = Scratch("d_normalized", x_SE.sizes());
  MlpBackward(normalized_SE, state, d_SE, d_normalized_SE);
  RmsNormBackward(d_normalized_SE, hidden_SE, weights_.post_norm, workspace_.Get("rstd", {x_SE.size(0)}, at::kFloat),
                  d_SE, gradients_.post_norm);

  AddLinearWeightGradient(d_SE, attended_SE, gradients_.output);
  at::Tensor d_attended_SE = Scratch("d_attended", attended_SE.sizes());
  LinearInputGradient(d_SE, weights_.output, d_attended_SE);
  return d_attended_SE;
}

void DecoderLayer::MlpBackward(const at::Tensor& normalized_SE, const LayerState& state, const at::Tensor& d_SE,
                               at::Tensor& d_normalized_SE) {
  const int64_t tokens = normalized_SE.size(0);
  const int64_t width = config_.intermediate_size;
  const int64_t tile = TileTokens(tokens);
  for (int64_t begin = 0; begin < tokens; begin += tile) {
    const int64_t count = std::min(tile, tokens - begin);
    const at::Tensor normalized = normalized_SE.narrow(0, begin, count);
    const at::Tensor d_out = d_SE.narrow(0, begin, count);
    at::Tensor d_normalized = d_normalized_SE.narrow(0, begin, count);
    at::Tensor gate_up = state.gate_up_S2I.defined() ? state.gate_up_S2I.narrow(0, begin, count)
                                                     : Scratch("gate_up", {count, 2 * width});
    if (!state.gate_up_S2I.defined()) Linear(normalized, weights_.gate_up, gate_up);
    at::Tensor activated = Scratch("activated", {count, width});
    LinearInputGradient(d_out, weights_.down, activated);
    SwiGluBackward(gate_up, activated);
    AddLinearWeightGradient(d_out, activated, gradients_.down);
    AddLinearWeightGradient(gate_up, normalized, gradients_.gate_up);
    LinearInputGradient(gate_up, weights_.gate_up, d_normalized);
  }
}

int64_t DecoderLayer::TileTokens(int64_t tokens) const {
  return options_.mlp_tile > 0 ? std::min(options_.mlp_tile, tokens) : tokens;
}

at::Tensor DecoderLayer::Scratch(const std::string& name, at::IntArrayRef shape) const {
  return workspace_.Get(name, shape, weights_.qkv.scalar_type());
}

}  // namespace ithaca::engine

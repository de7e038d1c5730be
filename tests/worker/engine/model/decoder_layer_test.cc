// A whole layer against the same layer written for autograd in double: every gradient, with activations kept and
// recomputed, with and without tiles, for every switch of the families.

#include "worker/engine/model/decoder_layer.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "worker/engine/comm/solo.h"

namespace ithaca::engine {
namespace {

constexpr int64_t kTokens = 40;
const DocumentStarts kDocuments = {0, 25, 40};

enum class Kind { kLlama, kQwen2, kQwen3, kUnrotated };

plan::ModelConfig TinyModel(Kind kind) {
  plan::ModelConfig config;
  config.hidden_size = 48;
  config.intermediate_size = 80;
  config.layers = 1;
  config.query_heads = 6;
  config.kv_heads = 2;
  config.head_dim = 16;
  config.vocab_size = 11;
  config.tied_embeddings = true;
  config.qk_norm = kind == Kind::kQwen3;
  config.qkv_bias = kind == Kind::kQwen2;
  if (kind == Kind::kUnrotated) config.unrotated_layers = {true};
  return config;
}

double RelativeError(const at::Tensor& got, const at::Tensor& want) {
  return ((got.to(at::kDouble) - want.to(at::kDouble)).norm() / want.to(at::kDouble).norm()).item<double>();
}

at::Tensor Normalize(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return weight * x * torch::rsqrt(x.square().mean(-1, true) + eps);
}

at::Tensor Rotate(const at::Tensor& x_SHD, const at::Tensor& angles_SD2) {
  const int64_t half = x_SHD.size(2) / 2;
  const at::Tensor a = x_SHD.narrow(2, 0, half);
  const at::Tensor b = x_SHD.narrow(2, half, half);
  const at::Tensor cos = angles_SD2.cos().unsqueeze(1);
  const at::Tensor sin = angles_SD2.sin().unsqueeze(1);
  return torch::cat({a * cos - b * sin, b * cos + a * sin}, 2);
}

// The layer of transformers' modeling_llama, _qwen2, _qwen3 and _smollm3, by weights under their Hugging Face names.
at::Tensor ReferenceLayer(const plan::ModelConfig& c, std::map<std::string, at::Tensor>& w, const at::Tensor& x,
                          const at::Tensor& angles, const at::Tensor& mask) {
  const auto weight = [&](const std::string& name) { return w.at("model.layers.0." + name + ".weight"); };
  const auto heads = [&](const std::string& name, const at::Tensor& in) {
    at::Tensor out = in.matmul(weight("self_attn." + name).t());
    if (c.qkv_bias) out = out + w.at("model.layers.0.self_attn." + name + ".bias");
    return out.view({kTokens, -1, c.head_dim});
  };
  const at::Tensor normal = Normalize(x, weight("input_layernorm"), c.rms_norm_eps);
  at::Tensor q = heads("q_proj", normal);
  at::Tensor k = heads("k_proj", normal);
  at::Tensor v = heads("v_proj", normal);
  if (c.qk_norm) {
    q = Normalize(q, weight("self_attn.q_norm"), c.rms_norm_eps);
    k = Normalize(k, weight("self_attn.k_norm"), c.rms_norm_eps);
  }
  const int64_t group = c.query_heads / c.kv_heads;
  if (c.Rotates(0)) {
    q = Rotate(q, angles);
    k = Rotate(k, angles);
  }
  q = q.transpose(0, 1);
  k = k.repeat_interleave(group, 1).transpose(0, 1);
  v = v.repeat_interleave(group, 1).transpose(0, 1);
  const at::Tensor scores = q.matmul(k.transpose(1, 2)) / std::sqrt(static_cast<double>(c.head_dim));
  const at::Tensor attended = (scores + mask).softmax(-1).matmul(v).transpose(0, 1).reshape({kTokens, -1});
  const at::Tensor hidden = x + attended.matmul(weight("self_attn.o_proj").t());
  const at::Tensor normal2 = Normalize(hidden, weight("post_attention_layernorm"), c.rms_norm_eps);
  const at::Tensor gate = torch::silu(normal2.matmul(weight("mlp.gate_proj").t()));
  return hidden + (gate * normal2.matmul(weight("mlp.up_proj").t())).matmul(weight("mlp.down_proj").t());
}

// 0 where a token attends (itself and earlier ones of its document), -inf elsewhere.
at::Tensor MaskOf(const DocumentStarts& documents) {
  at::Tensor mask = torch::full({kTokens, kTokens}, -INFINITY, torch::kDouble);
  for (size_t d = 0; d + 1 < documents.size(); ++d) {
    for (int64_t t = documents[d]; t < documents[d + 1]; ++t) mask[t].slice(0, documents[d], t + 1).zero_();
  }
  return mask;
}

struct Case {
  const char* name;
  Kind kind;
  bool keep;
  int64_t tile;
  at::ScalarType dtype = at::kFloat;
};

class DecoderLayerTest : public testing::TestWithParam<Case> {};

TEST_P(DecoderLayerTest, OutputAndEveryGradientEqualAutogradInDouble) {
  torch::manual_seed(11);
  const plan::ModelConfig config = TinyModel(GetParam().kind);
  Parameters parameters(config, GetParam().dtype, at::kCPU);
  std::map<std::string, at::Tensor> reference;
  for (const ParameterSpec& spec : parameters.specs()) {
    const at::Tensor value = spec.shape.size() == 1 ? torch::rand(spec.shape) + 0.5 : torch::randn(spec.shape) * 0.2;
    parameters.Weight(spec.name).copy_(value);
    reference[spec.name] = parameters.Weight(spec.name).to(at::kDouble).detach().clone().requires_grad_(true);
  }
  const at::Tensor x = torch::randn({kTokens, config.hidden_size}).to(GetParam().dtype);
  const at::Tensor d_out = torch::randn({kTokens, config.hidden_size}).to(GetParam().dtype);
  const at::Tensor angles = torch::rand({kTokens, config.head_dim / 2}) * 6;
  const LayerBatch batch = {.rope = {angles.cos(), angles.sin()}, .documents = kDocuments};

  const auto solo = MakeSoloCommunicator();
  UlyssesAttention attention(plan::HeadPlan(6, 2, 1), 16, *solo, "auto");
  Workspace workspace(at::kCPU);
  DecoderLayer layer(config, parameters, 0, attention, workspace,
                     {.keep_activations = GetParam().keep, .mlp_tile = GetParam().tile, .rotates = config.Rotates(0)});
  LayerState state;
  at::Tensor out = torch::empty_like(x);
  layer.Forward(x, batch, state, out);
  at::Tensor d_x = d_out.clone();
  layer.Backward(x, batch, state, d_x);

  const at::Tensor x64 = x.to(at::kDouble).detach().requires_grad_(true);
  const at::Tensor out64 = ReferenceLayer(config, reference, x64, angles.to(at::kDouble), MaskOf(kDocuments));
  out64.backward(d_out.to(at::kDouble));
  const double tolerance = GetParam().dtype == at::kFloat ? 3e-6 : 3e-2;
  EXPECT_LT(RelativeError(out, out64), tolerance);
  EXPECT_LT(RelativeError(d_x, x64.grad()), tolerance);
  for (const ParameterSpec& spec : parameters.specs()) {
    if (!spec.name.starts_with("model.layers.")) continue;
    EXPECT_LT(RelativeError(parameters.Gradient(spec.name), reference[spec.name].grad()), tolerance) << spec.name;
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, DecoderLayerTest,
    testing::Values(Case{"LlamaRecompute", Kind::kLlama, false, 0}, Case{"LlamaKeep", Kind::kLlama, true, 0},
                    Case{"LlamaTiles", Kind::kLlama, false, 16}, Case{"LlamaKeepTiles", Kind::kLlama, true, 7},
                    Case{"Qwen2Recompute", Kind::kQwen2, false, 0}, Case{"Qwen2Keep", Kind::kQwen2, true, 0},
                    Case{"Qwen2Bfloat16", Kind::kQwen2, false, 16, at::kBFloat16},
                    Case{"Qwen3Recompute", Kind::kQwen3, false, 16}, Case{"Qwen3Keep", Kind::kQwen3, true, 0},
                    Case{"Qwen3Bfloat16", Kind::kQwen3, false, 16, at::kBFloat16},
                    Case{"UnrotatedRecompute", Kind::kUnrotated, false, 0},
                    Case{"UnrotatedKeep", Kind::kUnrotated, true, 0}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace ithaca::engine

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "worker/engine/attention/ulysses_attention.h"
#include "worker/engine/memory/workspace.h"
#include "worker/engine/model/parameters.h"
#include "worker/engine/model/rope.h"
#include "worker/plan/model_config.h"

// S tokens of this shard, E model width, H = Hq + 2 Hkv heads (query, key, value), D head size, I MLP width.

namespace ithaca::engine {

// What every layer needs to know of a sequence.
struct LayerBatch {
  RopeTable rope;            // of this shard's tokens
  DocumentStarts documents;  // of the whole sequence
};

// What one layer keeps between forward and backward.
struct LayerState {
  AttentionState attention;
  at::Tensor hidden_SE;    // after attention and residual; only if activations are kept
  at::Tensor gate_up_S2I;  // before SwiGLU; only if activations are kept
};

struct LayerOptions {
  bool keep_activations = false;  // else backward recomputes all but attention from the layer's input
  int64_t mlp_tile = 0;           // tokens that pass the MLP at a time; 0: all
  bool rotates = true;            // queries and keys, by RoPE
  int64_t window = 0;             // of attention, in tokens; 0: none
};

// One decoder layer (plan/model_family.h) in three segments: before attention (norm, q k v, RoPE), attention, after
// attention (output projection, norm, SwiGLU MLP in tiles of tokens). Each has a forward and a backward written out by
// hand; no autograd graph exists. Weight gradients are added to the parameters' fp32 buffers. Owned by the decoder; one
// thread.
class DecoderLayer {
 public:
  // `parameters`, `attention` and `workspace` outlive the layer.
  DecoderLayer(const plan::ModelConfig& config, const Parameters& parameters, int64_t index,
               UlyssesAttention& attention, Workspace& workspace, LayerOptions options);

  // x_SE -> out_SE (not the same memory).
  void Forward(const at::Tensor& x_SE, const LayerBatch& batch, LayerState& state, at::Tensor& out_SE);

  // Forward up to attention: all that Backward needs where activations are not kept. Returns attended_SHD.
  at::Tensor Attend(const at::Tensor& x_SE, const LayerBatch& batch, LayerState& state);

  // d_SE comes as the gradient of out_SE and leaves as that of x_SE, which must still hold its values. Frees `state`.
  void Backward(const at::Tensor& x_SE, const LayerBatch& batch, LayerState& state, at::Tensor& d_SE);

 private:
  // The layer's tensors, as weights or as gradients.
  struct Tensors {
    at::Tensor input_norm, qkv, qkv_bias, q_norm, k_norm, output, post_norm, gate_up, down;
  };

  at::Tensor Normalize(const at::Tensor& x_SE, const at::Tensor& weight_E);
  void ComputeQkv(const at::Tensor& normalized_SE, const RopeTable& rope, at::Tensor& qkv_SHD);
  void NormalizeHeads(const at::Tensor& raw_SHD, at::Tensor& qkv_SHD);
  at::Tensor NormalizeHeadsBackward(const at::Tensor& d_qkv_SHD);
  void BeforeAttentionBackward(const at::Tensor& x_SE, const at::Tensor& normalized_SE, const RopeTable& rope,
                               at::Tensor& d_qkv_SHD, at::Tensor& d_SE);
  void AfterAttention(const at::Tensor& x_SE, const at::Tensor& attended_SE, LayerState& state, at::Tensor& out_SE);
  at::Tensor AfterAttentionBackward(const at::Tensor& x_SE, const at::Tensor& attended_SE, LayerState& state,
                                    at::Tensor& d_SE);
  void MlpBackward(const at::Tensor& normalized_SE, const LayerState& state, const at::Tensor& d_SE,
                   at::Tensor& d_normalized_SE);
  int64_t TileTokens(int64_t tokens) const;
  at::Tensor Scratch(const std::string& name, at::IntArrayRef shape) const;

  plan::ModelConfig config_;
  LayerOptions options_;
  UlyssesAttention& attention_;
  Workspace& workspace_;
  Tensors weights_;
  Tensors gradients_;
};

}  // namespace ithaca::engine

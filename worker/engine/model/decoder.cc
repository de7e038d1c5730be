#include "worker/engine/model/decoder.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "worker/engine/model/layer_ops.h"

namespace ithaca::engine {

Decoder::Decoder(const plan::ModelConfig& config, const plan::MemoryPlan& plan, const Parameters& parameters,
                 Communicator& sequence_group, Workspace& workspace)
    : config_(config),
      workspace_(workspace),
      attention_(plan::HeadPlan(static_cast<int>(config.query_heads), static_cast<int>(config.kv_heads),
                                sequence_group.size()),
                 static_cast<int>(config.head_dim), sequence_group, "auto"),
      states_(config.layers),
      embedding_VE_(parameters.Weight("model.embed_tokens.weight")),
      d_embedding_VE_(parameters.Gradient("model.embed_tokens.weight")),
      norm_E_(parameters.Weight("model.norm.weight")),
      d_norm_E_(parameters.Gradient("model.norm.weight")),
      recomputes_attention_(plan.attention_outputs == plan::AttentionOutputs::kRecompute),
      segment_layers_(plan.segment_layers) {
  LayerOptions options{.keep_activations = plan.layer_inputs == plan::LayerInputs::kKeep, .mlp_tile = plan.mlp_tile};
  layers_.reserve(config.layers);
  for (int64_t index = 0; index < config.layers; ++index) {
    options.rotates = config.Rotates(index);
    options.window = config.Windowed(index) ? config.sliding_window : 0;
    layers_.emplace_back(config, parameters, index, attention_, workspace, options);
  }
  inverse_frequencies_ = RopeInverseFrequencies(config).to(embedding_VE_.device());
  const int64_t shard = plan.padded_sequence_length / sequence_group.size();
  const int64_t segments = (config.layers + segment_layers_ - 1) / segment_layers_;
  inputs_GSE_ = at::empty({segments + segment_layers_, shard, config.hidden_size}, embedding_VE_.options());
}

int64_t Decoder::End(int64_t begin) const { return std::min(begin + segment_layers_, config_.layers); }

// What goes into `layer`, or, of the number of layers, what comes out of the last.
at::Tensor Decoder::Input(const MicroBatch& batch, int64_t layer) const {
  const int64_t segments = inputs_GSE_.size(0) - segment_layers_;
  const int64_t within = layer % segment_layers_;
  const int64_t row = layer == config_.layers ? segments : within == 0 ? layer / segment_layers_ : segments + within;
  return inputs_GSE_[row].narrow(0, 0, batch.ids_S.size(0));
}

at::Tensor Decoder::Forward(const MicroBatch& batch) {
  at::Tensor x_SE = Input(batch, 0);
  at::index_select_out(x_SE, embedding_VE_, 0, batch.ids_S);
  for (int64_t begin = 0; begin < config_.layers; begin = End(begin)) {
    ForwardLayers(batch, begin, End(begin));
    if (!recomputes_attention_ || End(begin) == config_.layers) continue;  // what it leaves stays
    std::fill(states_.begin() + begin, states_.begin() + End(begin), LayerState());
  }
  x_SE = Input(batch, config_.layers);
  at::Tensor out_SE = workspace_.Get("normalized", x_SE.sizes(), x_SE.scalar_type());
  at::Tensor rstd_S = workspace_.Get("final_rstd", {x_SE.size(0)}, at::kFloat);
  RmsNorm(x_SE, norm_E_, config_.rms_norm_eps, out_SE, rstd_S);
  return out_SE;
}

void Decoder::ForwardLayers(const MicroBatch& batch, int64_t begin, int64_t end) {
  for (int64_t layer = begin; layer < end; ++layer) {
    at::Tensor out_SE = Input(batch, layer + 1);
    layers_[layer].Forward(Input(batch, layer), batch.layers, states_[layer], out_SE);
  }
}

// What comes out of the segment is still there.
void Decoder::ForwardSegmentAgain(const MicroBatch& batch, int64_t begin) {
  const int64_t last = End(begin) - 1;
  ForwardLayers(batch, begin, last);
  layers_[last].Attend(Input(batch, last), batch.layers, states_[last]);
}

void Decoder::Backward(const MicroBatch& batch, const at::Tensor& d_out_SE) {
  const at::Tensor last_SE = Input(batch, config_.layers);
  at::Tensor d_SE = workspace_.Get("d_stream", last_SE.sizes(), last_SE.scalar_type()).zero_();
  RmsNormBackward(d_out_SE, last_SE, norm_E_, workspace_.Get("final_rstd", {last_SE.size(0)}, at::kFloat), d_SE,
                  d_norm_E_);
  for (int64_t layer = config_.layers - 1; layer >= 0; --layer) {
    if (!states_[layer].attention.out_THD.defined())
      ForwardSegmentAgain(batch, layer / segment_layers_ * segment_layers_);
    layers_[layer].Backward(Input(batch, layer), batch.layers, states_[layer], d_SE);
  }
  d_embedding_VE_.index_add_(0, batch.ids_S, d_SE.to(at::kFloat));
}

void Decoder::DropState() {
  for (LayerState& state : states_) state = LayerState();
  attention_.TakeExchangeSpans();
}

RopeTable Decoder::MakeRope(const at::Tensor& positions_S) const {
  return MakeRopeTable(inverse_frequencies_, positions_S, config_.rope_scaling.attention_factor);
}

}  // namespace ithaca::engine

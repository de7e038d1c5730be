#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "worker/engine/attention/ulysses_attention.h"
#include "worker/engine/comm/communicator.h"
#include "worker/engine/memory/workspace.h"
#include "worker/engine/model/decoder_layer.h"
#include "worker/engine/model/parameters.h"
#include "worker/plan/memory_plan.h"
#include "worker/plan/model_config.h"

// S tokens of this shard, E model width.

namespace ithaca::engine {

// One sequence as this rank sees it: its shard of the tokens, on the device.
struct MicroBatch {
  at::Tensor ids_S;     // int64
  at::Tensor labels_S;  // int64, kIgnoredLabel where there is no target
  LayerBatch layers;
};

// The model without its head: embedding, layers, final norm. Backward adds every weight's gradient, over this rank's
// tokens, to the parameters' buffers. Keeps the input of every layer and what `plan.layer_inputs` says; or, of segments
// of `plan.segment_layers` layers, the first layer's input, and runs a segment forward again before its backward. Owned
// by the trainer; `parameters` and `sequence_group` outlive it; one thread; collective over the sequence group.
class Decoder {
 public:
  Decoder(const plan::ModelConfig& config, const plan::MemoryPlan& plan, const Parameters& parameters,
          Communicator& sequence_group, Workspace& workspace);

  // -> normalized hidden states [S, E], valid until the next call.
  at::Tensor Forward(const MicroBatch& batch);

  // d_out_SE: gradient of what Forward returned for the same batch, once.
  void Backward(const MicroBatch& batch, const at::Tensor& d_out_SE);

  // Instead of Backward, when only the loss was wanted.
  void DropState();

  // cos and sin for the positions [S] (int64, on the device) of a shard.
  RopeTable MakeRope(const at::Tensor& positions_S) const;

  // When the all-to-alls since the last call were under way (attention/ulysses_attention.h).
  std::vector<DeviceSpan> TakeExchangeSpans() { return attention_.TakeExchangeSpans(); }

 private:
  int64_t End(int64_t begin) const;  // of the segment that begins with layer `begin`
  at::Tensor Input(const MicroBatch& batch, int64_t layer) const;
  void ForwardLayers(const MicroBatch& batch, int64_t begin, int64_t end);
  void ForwardSegmentAgain(const MicroBatch& batch, int64_t begin);

  plan::ModelConfig config_;
  Workspace& workspace_;
  UlyssesAttention attention_;
  std::vector<DecoderLayer> layers_;
  std::vector<LayerState> states_;
  at::Tensor inverse_frequencies_;
  at::Tensor embedding_VE_, d_embedding_VE_;
  at::Tensor norm_E_, d_norm_E_;
  bool recomputes_attention_;
  int64_t segment_layers_;
  // [segments + segment_layers, S of the longest sequence, E]: what goes into each segment and out of the last, then
  // what goes into each other layer of the segment at work.
  at::Tensor inputs_GSE_;
};

}  // namespace ithaca::engine

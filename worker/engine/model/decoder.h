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
// tokens, to the parameters' buffers. Keeps one layer input per layer and what `plan.layer_inputs` says. Owned by the
// trainer; `parameters` and `sequence_group` outlive it; one thread; collective over the sequence group.
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
  plan::ModelConfig config_;
  Workspace& workspace_;
  UlyssesAttention attention_;
  std::vector<DecoderLayer> layers_;
  std::vector<LayerState> states_;
  at::Tensor inverse_frequencies_;
  at::Tensor embedding_VE_, d_embedding_VE_;
  at::Tensor norm_E_, d_norm_E_;
  at::Tensor inputs_LSE_;  // [layers + 1, S, E]: what goes into each layer, and out of the last
};

}  // namespace ithaca::engine

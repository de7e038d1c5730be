#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "worker/engine/attention/device_moment.h"
#include "worker/engine/comm/communicator.h"
#include "worker/plan/head_plan.h"

// T tokens of the whole sequence, S = T / P tokens of this rank's shard, Hq and Hkv query and KV heads of the model, hq
// and hkv those of this rank after the exchange, D head size.

namespace ithaca::engine {

// The documents of one sequence of T tokens: document d is tokens [starts[d], starts[d + 1]); starts begins with 0 and
// ends with T. Attention is causal and never leaves a document.
using DocumentStarts = std::vector<int64_t>;

// What a query may see: itself and what is before it in its document; with a window only the last `window` of these.
struct AttentionMask {
  // NOLINTNEXTLINE(google-explicit-constructor): documents without a window are a mask.
  AttentionMask(const DocumentStarts& documents, int64_t window = 0) : documents(documents), window(window) {}
  const DocumentStarts& documents;  // outlives the mask
  int64_t window;                   // tokens, the query's own included; 0: none
};

// What attention keeps between forward and backward of one layer.
struct AttentionState {
  at::Tensor out_THD;  // [T, hq, D] output before the exchange back
  at::Tensor lse_HT;   // [hq, T] fp32 log-sum-exp of the scores
  at::Tensor qkv_THD;  // [T, hq + 2 hkv, D] only if the layer keeps its activations; else undefined and exchanged again
                       // in backward
};

// Exact causal attention over a sequence whose tokens are spread over a sequence-parallel group (DeepSpeed-Ulysses,
// arXiv 2309.14509, section 3): one all-to-all from token shards to head shards, attention over whole documents for
// this rank's heads, one all-to-all back. Used by one thread; the communicator outlives it. Throws EngineError.
class UlyssesAttention {
 public:
  // `backend`: "auto", "cpu_flash", "cpu_blocked", "cudnn", "cuda_flash", "cuda_efficient", "reference". A backend that
  // cannot do what is asked throws, naming itself.
  UlyssesAttention(plan::HeadPlan heads, int head_dim, Communicator& sequence_group, const std::string& backend);
  ~UlyssesAttention();

  // qkv_SHD [S, Hq + 2 Hkv, D] (query heads, then key heads, then value heads; RoPE applied) -> out_SHD [S, Hq, D].
  // keep_qkv: state keeps the exchanged qkv, so that Backward needs no second exchange of it.
  at::Tensor Forward(const at::Tensor& qkv_SHD, const AttentionMask& mask, bool keep_qkv, AttentionState& state);

  // d_out_SHD [S, Hq, D] -> d_qkv_SHD [S, Hq + 2 Hkv, D]; gradients of a KV head used on several ranks are summed.
  // qkv_SHD: as given to Forward (recomputed bit for bit), may be undefined if state.qkv_THD is there. Attention itself
  // is not run again. Frees `state`.
  at::Tensor Backward(const at::Tensor& d_out_SHD, const at::Tensor& qkv_SHD, const AttentionMask& mask,
                      AttentionState& state);

  // The exchange back alone: out_SHD of a layer from its state (backward of the output projection needs it). P = 1: no
  // copy.
  at::Tensor OutputFromState(const AttentionState& state);

  // When the all-to-alls since the last call were under way; readable once the device is through with them.
  std::vector<DeviceSpan> TakeExchangeSpans();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ithaca::engine

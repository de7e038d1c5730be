#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "worker/engine/attention/ulysses_attention.h"
#include "worker/plan/head_plan.h"

// T tokens of the whole sequence, hq and hkv heads of this rank, D head size.

namespace ithaca::engine {

// Queries, keys and values (or their gradients) of this rank's heads: views [T, heads, D] whose last dimension is
// contiguous; they may be slices of one tensor.
struct QkvHeads {
  at::Tensor q_THD, k_THD, v_THD;

  // The three parts of a fused [T, hq + 2 hkv, D].
  static QkvHeads Of(const at::Tensor& qkv_THD, int64_t query_heads, int64_t kv_heads);
};

// This rank's heads, in its own numbering: query heads [query_begin, query_end) use KV head `kv_head`. Groups are in
// order, differ in size when heads do not divide the ranks, and cover every query head once.
using HeadGroups = std::vector<plan::HeadSegment>;
HeadGroups LocalHeadGroups(const plan::HeadPlan& heads, int rank);

// Exact attention of one rank's heads under a mask (causal, within documents, within a window). Scores are q . k *
// scale. Deterministic for a fixed number of threads. Owned by one UlyssesAttention and used by its thread; keeps its
// workspace between calls. Throws EngineError, naming itself, when it cannot do what is asked.
class AttentionBackend {
 public:
  virtual ~AttentionBackend() = default;
  virtual const char* name() const = 0;

  // Writes out_THD [T, hq, D] (dtype of q) and lse_HT [hq, T] (fp32, natural logarithm of the sum of exponentials).
  virtual void Forward(const QkvHeads& qkv, const HeadGroups& groups, const AttentionMask& mask, double scale,
                       at::Tensor& out_THD, at::Tensor& lse_HT) = 0;

  // Writes all of `gradients`; gradients of a KV head are summed over its group. Uses the saved output and log-sum-exp:
  // the forward softmax is not computed again.
  virtual void Backward(const at::Tensor& d_out_THD, const QkvHeads& qkv, const at::Tensor& out_THD,
                        const at::Tensor& lse_HT, const HeadGroups& groups, const AttentionMask& mask, double scale,
                        QkvHeads& gradients) = 0;
};

std::unique_ptr<AttentionBackend> MakeReferenceAttention();
std::unique_ptr<AttentionBackend> MakeCpuFlashAttention();
std::unique_ptr<AttentionBackend> MakeCpuBlockedAttention();
std::unique_ptr<AttentionBackend> MakeCudnnAttention();
std::unique_ptr<AttentionBackend> MakeCudaFlashAttention();
std::unique_ptr<AttentionBackend> MakeCudaEfficientAttention();

// By name, or "auto": on CPU always cpu_blocked, the fastest of the exact ones in fp32 and bf16; on CUDA see
// cuda_auto.h. `sample` names the device, dtype and shape [T, hq, D] of the queries. Throws EngineError (invalid
// config) for an unknown name, or one that does not run on the device.
std::unique_ptr<AttentionBackend> MakeAttentionBackend(const std::string& name, const at::Tensor& sample_THD,
                                                       const HeadGroups& groups);

// Of a backend that knows no windows: throws EngineError (invalid config) when the mask has one.
void RefuseWindow(const AttentionMask& mask, const char* backend);

// Helpers of the backends that call ATen, whose heads must be one KV head per query head.
at::Tensor KvPerQueryHead(const at::Tensor& kv_THD, const HeadGroups& groups);  // [T, hkv, D] -> [T, hq, D]
// The adjoint: sums over each group in head order, in fp32, into d_kv_THD.
void SumOverGroups(const at::Tensor& d_expanded_THD, const HeadGroups& groups, at::Tensor& d_kv_THD);

}  // namespace ithaca::engine

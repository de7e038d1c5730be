#include <ATen/ATen.h>

#include <limits>
#include <tuple>

#include "worker/engine/attention/attention_backend.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

constexpr int64_t kCausal = 1;         // ATen's mask type: causal from the top left
constexpr int64_t kLseAlignment = 32;  // rows of the log-sum-exp come in blocks of so many queries

// [T, H, D] slice of a document -> [1, t, H, D]; a view.
at::Tensor AsBTHD(const at::Tensor& x_THD, int64_t start, int64_t length) {
  return x_THD.narrow(0, start, length).unsqueeze(0);
}

// The log-sum-exp of a document as the kernel's forward leaves it: rows behind the last query are infinite, so that
// their weights are 0 in backward.
at::Tensor PaddedLse(const at::Tensor& lse_HT, int64_t start, int64_t length) {
  const int64_t padded = (length + kLseAlignment - 1) / kLseAlignment * kLseAlignment;
  at::Tensor lse_BHT = at::full({1, lse_HT.size(0), padded}, std::numeric_limits<float>::infinity(), lse_HT.options());
  lse_BHT.select(0, 0).narrow(1, 0, length).copy_(lse_HT.narrow(1, start, length));
  return lse_BHT;
}

// ATen's memory-efficient attention, the only fused one on CUDA that takes fp32 (each product as three of TF32, which
// keeps fp32's accuracy). One KV head per query head. One document at a time: the form for packed documents holds a
// log-sum-exp of [documents, H, longest], which no plan could bound. Backward adds up dQ in any order, so its last bits
// differ from run to run.
class CudaEfficientAttention : public AttentionBackend {
 public:
  const char* name() const override { return "cuda_efficient"; }

  void Forward(const QkvHeads& qkv, const HeadGroups& groups, const AttentionMask& mask, double scale,
               at::Tensor& out_THD, at::Tensor& lse_HT) override {
    RefuseWindow(mask, name());
    const DocumentStarts& documents = mask.documents;
    Check(qkv.q_THD);
    const at::Tensor k_THD = KvPerQueryHead(qkv.k_THD, groups), v_THD = KvPerQueryHead(qkv.v_THD, groups);
    for (size_t d = 0; d + 1 < documents.size(); ++d) {
      const int64_t start = documents[d], length = documents[d + 1] - start;
      if (length == 0) continue;
      const auto result = at::_efficient_attention_forward(
          AsBTHD(qkv.q_THD, start, length), AsBTHD(k_THD, start, length), AsBTHD(v_THD, start, length), /*bias=*/{},
          /*cu_seqlens_q=*/{}, /*cu_seqlens_k=*/{}, /*max_seqlen_q=*/length, /*max_seqlen_k=*/length,
          /*dropout_p=*/0.0, kCausal, /*compute_log_sumexp=*/true, scale);
      AsBTHD(out_THD, start, length).copy_(std::get<0>(result));
      lse_HT.narrow(1, start, length).copy_(std::get<1>(result).select(0, 0).narrow(1, 0, length));
    }
  }

  void Backward(const at::Tensor& d_out_THD, const QkvHeads& qkv, const at::Tensor& out_THD, const at::Tensor& lse_HT,
                const HeadGroups& groups, const AttentionMask& mask, double scale, QkvHeads& gradients) override {
    const DocumentStarts& documents = mask.documents;
    Check(qkv.q_THD);
    const at::Tensor k_THD = KvPerQueryHead(qkv.k_THD, groups), v_THD = KvPerQueryHead(qkv.v_THD, groups);
    const at::Tensor d_k_THD = at::empty_like(k_THD), d_v_THD = at::empty_like(v_THD);
    const at::Tensor no_dropout = at::empty({}, qkv.q_THD.options().dtype(at::kLong));
    for (size_t d = 0; d + 1 < documents.size(); ++d) {
      const int64_t start = documents[d], length = documents[d + 1] - start;
      if (length == 0) continue;
      const auto [d_q, d_k, d_v, d_bias] = at::_efficient_attention_backward(
          AsBTHD(d_out_THD, start, length), AsBTHD(qkv.q_THD, start, length), AsBTHD(k_THD, start, length),
          AsBTHD(v_THD, start, length), /*bias=*/{}, AsBTHD(out_THD, start, length).contiguous(), /*cu_seqlens_q=*/{},
          /*cu_seqlens_k=*/{}, /*max_seqlen_q=*/length, /*max_seqlen_k=*/length, PaddedLse(lse_HT, start, length),
          /*dropout_p=*/0.0, no_dropout, no_dropout, kCausal, /*bias_requires_grad=*/false, scale);
      AsBTHD(gradients.q_THD, start, length).copy_(d_q);
      AsBTHD(d_k_THD, start, length).copy_(d_k);
      AsBTHD(d_v_THD, start, length).copy_(d_v);
    }
    SumOverGroups(d_k_THD, groups, gradients.k_THD);
    SumOverGroups(d_v_THD, groups, gradients.v_THD);
  }

 private:
  // The kernels load 16 bytes at a time.
  static void Check(const at::Tensor& q_THD) {
    if (q_THD.size(2) * q_THD.element_size() % 16 == 0) return;
    throw EngineError(plan::ExitCode::kInvalidConfig,
                      "attention backend 'cuda_efficient' takes head sizes of a multiple of 16 bytes, not " +
                          std::to_string(q_THD.size(2)) + " of " + std::string(at::toString(q_THD.scalar_type())));
  }
};

}  // namespace

std::unique_ptr<AttentionBackend> MakeCudaEfficientAttention() { return std::make_unique<CudaEfficientAttention>(); }

}  // namespace ithaca::engine

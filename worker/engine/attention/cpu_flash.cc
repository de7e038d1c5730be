#include <ATen/ATen.h>

#include "worker/engine/attention/attention_backend.h"

namespace ithaca::engine {
namespace {

// [T, H, D] slice of a document -> [1, H, t, D] as ATen wants it; a view.
at::Tensor AsBHTD(const at::Tensor& x_THD, int64_t start, int64_t length) {
  return x_THD.narrow(0, start, length).transpose(0, 1).unsqueeze(0);
}

// ATen's flash attention on CPU, one document at a time. It answers wrongly, without a word, when query heads are not
// a multiple of KV heads, so it is given one KV head per query head.
class CpuFlashAttention : public AttentionBackend {
 public:
  const char* name() const override { return "cpu_flash"; }

  void Forward(const QkvHeads& qkv, const HeadGroups& groups, const AttentionMask& mask, double scale,
               at::Tensor& out_THD, at::Tensor& lse_HT) override {
    RefuseWindow(mask, name());
    const DocumentStarts& documents = mask.documents;
    const at::Tensor k_THD = KvPerQueryHead(qkv.k_THD, groups), v_THD = KvPerQueryHead(qkv.v_THD, groups);
    for (size_t d = 0; d + 1 < documents.size(); ++d) {
      const int64_t start = documents[d], length = documents[d + 1] - start;
      if (length == 0) continue;
      const auto [out_BHTD, lse_BHT] = at::_scaled_dot_product_flash_attention_for_cpu(
          AsBHTD(qkv.q_THD, start, length), AsBHTD(k_THD, start, length), AsBHTD(v_THD, start, length),
          /*dropout_p=*/0.0, /*is_causal=*/true, /*attn_mask=*/{}, scale);
      AsBHTD(out_THD, start, length).copy_(out_BHTD);
      lse_HT.narrow(1, start, length).copy_(lse_BHT.squeeze(0));
    }
  }

  void Backward(const at::Tensor& d_out_THD, const QkvHeads& qkv, const at::Tensor& out_THD, const at::Tensor& lse_HT,
                const HeadGroups& groups, const AttentionMask& mask, double scale, QkvHeads& gradients) override {
    const DocumentStarts& documents = mask.documents;
    const at::Tensor k_THD = KvPerQueryHead(qkv.k_THD, groups), v_THD = KvPerQueryHead(qkv.v_THD, groups);
    const at::Tensor d_k_THD = at::empty_like(k_THD), d_v_THD = at::empty_like(v_THD);
    for (size_t d = 0; d + 1 < documents.size(); ++d) {
      const int64_t start = documents[d], length = documents[d + 1] - start;
      if (length == 0) continue;
      const at::Tensor lse_BHT = lse_HT.narrow(1, start, length).unsqueeze(0).contiguous();
      const auto [d_q, d_k, d_v] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
          AsBHTD(d_out_THD, start, length), AsBHTD(qkv.q_THD, start, length), AsBHTD(k_THD, start, length),
          AsBHTD(v_THD, start, length), AsBHTD(out_THD, start, length), lse_BHT, /*dropout_p=*/0.0, /*is_causal=*/true,
          /*attn_mask=*/{}, scale);
      AsBHTD(gradients.q_THD, start, length).copy_(d_q);
      AsBHTD(d_k_THD, start, length).copy_(d_k);
      AsBHTD(d_v_THD, start, length).copy_(d_v);
    }
    SumOverGroups(d_k_THD, groups, gradients.k_THD);
    SumOverGroups(d_v_THD, groups, gradients.v_THD);
  }
};

}  // namespace

std::unique_ptr<AttentionBackend> MakeCpuFlashAttention() { return std::make_unique<CpuFlashAttention>(); }

}  // namespace ithaca::engine

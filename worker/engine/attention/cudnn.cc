#include <ATen/ATen.h>

#include "worker/engine/attention/attention_backend.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

at::Tensor AsBHTD(const at::Tensor& x_THD, int64_t start, int64_t length) {
  return x_THD.narrow(0, start, length).transpose(0, 1).unsqueeze(0);
}

// cuDNN's fused attention through ATen, one document at a time, one KV head per query head. Half precision only.
class CudnnAttention : public AttentionBackend {
 public:
  const char* name() const override { return "cudnn"; }

  void Forward(const QkvHeads& qkv, const HeadGroups& groups, const AttentionMask& mask, double scale,
               at::Tensor& out_THD, at::Tensor& lse_HT) override {
    RefuseWindow(mask, name());
    const DocumentStarts& documents = mask.documents;
    Check(qkv.q_THD);
    const at::Tensor k_THD = KvPerQueryHead(qkv.k_THD, groups), v_THD = KvPerQueryHead(qkv.v_THD, groups);
    for (size_t d = 0; d + 1 < documents.size(); ++d) {
      const int64_t start = documents[d], length = documents[d + 1] - start;
      if (length == 0) continue;
      if (length == 1) {
        OneTokenForward(qkv.q_THD[start], k_THD[start], v_THD[start], scale, out_THD, lse_HT, start);
        continue;
      }
      const auto result = at::_scaled_dot_product_cudnn_attention(
          AsBHTD(qkv.q_THD, start, length), AsBHTD(k_THD, start, length), AsBHTD(v_THD, start, length),
          /*attn_bias=*/{}, /*compute_log_sumexp=*/true, /*dropout_p=*/0.0, /*is_causal=*/true,
          /*return_debug_mask=*/false, scale);
      AsBHTD(out_THD, start, length).copy_(std::get<0>(result));
      const at::Tensor& lse = std::get<1>(result);
      lse_has_last_dimension_ = lse.dim() == 4;
      lse_HT.narrow(1, start, length).copy_(lse.reshape({-1, length}));
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
      if (length == 1) {
        gradients.q_THD[start].zero_();
        d_k_THD[start].zero_();
        d_v_THD[start].copy_(d_out_THD[start]);
        continue;
      }
      at::Tensor lse_BHT = lse_HT.narrow(1, start, length).contiguous().unsqueeze(0);
      if (lse_has_last_dimension_) lse_BHT = lse_BHT.unsqueeze(-1);
      const auto [d_q, d_k, d_v] = at::_scaled_dot_product_cudnn_attention_backward(
          AsBHTD(d_out_THD, start, length), AsBHTD(qkv.q_THD, start, length), AsBHTD(k_THD, start, length),
          AsBHTD(v_THD, start, length), AsBHTD(out_THD, start, length), lse_BHT, no_dropout, no_dropout,
          /*attn_bias=*/at::Tensor(), /*cum_seq_q=*/at::Tensor(), /*cum_seq_k=*/at::Tensor(), length, length,
          /*dropout_p=*/0.0, /*is_causal=*/true, scale);
      AsBHTD(gradients.q_THD, start, length).copy_(d_q);
      AsBHTD(d_k_THD, start, length).copy_(d_k);
      AsBHTD(d_v_THD, start, length).copy_(d_v);
    }
    SumOverGroups(d_k_THD, groups, gradients.k_THD);
    SumOverGroups(d_v_THD, groups, gradients.v_THD);
  }

 private:
  // cuDNN does not take a single key. Its softmax is 1 whatever its score, and no gradient goes through it.
  static void OneTokenForward(const at::Tensor& q_HD, const at::Tensor& k_HD, const at::Tensor& v_HD, double scale,
                              const at::Tensor& out_THD, const at::Tensor& lse_HT, int64_t token) {
    out_THD[token].copy_(v_HD);
    lse_HT.select(1, token).copy_((q_HD.to(at::kFloat) * k_HD.to(at::kFloat)).sum(-1) * scale);
  }

  static void Check(const at::Tensor& q_THD) {
    const bool half = q_THD.scalar_type() == at::kBFloat16 || q_THD.scalar_type() == at::kHalf;
    if (half && q_THD.size(2) % 8 == 0 && q_THD.size(2) <= 256) return;
    throw EngineError(
        plan::ExitCode::kInvalidConfig,
        "attention backend 'cudnn' takes bfloat16 and head sizes that are multiples of 8 up to 256, not " +
            std::string(at::toString(q_THD.scalar_type())) + " and " + std::to_string(q_THD.size(2)));
  }

  // Forward's log-sum-exp is [1, H, t] or [1, H, t, 1], by the version of ATen, and backward wants it as forward gave
  // it.
  bool lse_has_last_dimension_ = false;
};

}  // namespace

std::unique_ptr<AttentionBackend> MakeCudnnAttention() { return std::make_unique<CudnnAttention>(); }

}  // namespace ithaca::engine

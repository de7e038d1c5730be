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

  void Forward(const QkvHeads& qkv, const HeadGroups& groups, const DocumentStarts& documents, double scale,
               at::Tensor& out_THD, at::Tensor& lse_HT) override {
    Check(qkv.q_THD);
    const at::Tensor k_THD = KvPerQueryHead(qkv.k_THD, groups), v_THD = KvPerQueryHead(qkv.v_THD, groups);
    for (size_t d = 0; d + 1 < documents.size(); ++d) {
      const int64_t start = documents[d], length = documents[d + 1] - start;
      if (length == 0) continue;
      const auto result = at::_scaled_dot_product_cudnn_attention(
          AsBHTD(qkv.q_THD, start, length), AsBHTD(k_THD, start, length), AsBHTD(v_THD, start, length),
          /*attn_bias=*/{}, /*compute_log_sumexp=*/true, /*dropout_p=*/0.0, /*is_causal=*/true,
          /*return_debug_mask=*/false, scale);
      AsBHTD(out_THD, start, length).copy_(std::get<0>(result));
      lse_HT.narrow(1, start, length).copy_(std::get<1>(result).reshape({-1, length}));
    }
  }

  void Backward(const at::Tensor& d_out_THD, const QkvHeads& qkv, const at::Tensor& out_THD, const at::Tensor& lse_HT,
                const HeadGroups& groups, const DocumentStarts& documents, double scale, QkvHeads& gradients) override {
    Check(qkv.q_THD);
    const at::Tensor k_THD = KvPerQueryHead(qkv.k_THD, groups), v_THD = KvPerQueryHead(qkv.v_THD, groups);
    const at::Tensor d_k_THD = at::empty_like(k_THD), d_v_THD = at::empty_like(v_THD);
    const at::Tensor no_dropout = at::zeros({}, qkv.q_THD.options().dtype(at::kLong));
    for (size_t d = 0; d + 1 < documents.size(); ++d) {
      const int64_t start = documents[d], length = documents[d + 1] - start;
      if (length == 0) continue;
      const at::Tensor lse_BHT1 = lse_HT.narrow(1, start, length).contiguous().view({1, -1, length, 1});
      const auto [d_q, d_k, d_v] = at::_scaled_dot_product_cudnn_attention_backward(
          AsBHTD(d_out_THD, start, length), AsBHTD(qkv.q_THD, start, length), AsBHTD(k_THD, start, length),
          AsBHTD(v_THD, start, length), AsBHTD(out_THD, start, length), lse_BHT1, no_dropout, no_dropout,
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
  static void Check(const at::Tensor& q_THD) {
    const bool half = q_THD.scalar_type() == at::kBFloat16 || q_THD.scalar_type() == at::kHalf;
    if (half && q_THD.size(2) % 8 == 0 && q_THD.size(2) <= 256) return;
    throw EngineError(
        plan::ExitCode::kInvalidConfig,
        "attention backend 'cudnn' takes bfloat16 and head sizes that are multiples of 8 up to 256, not " +
            std::string(at::toString(q_THD.scalar_type())) + " and " + std::to_string(q_THD.size(2)));
  }
};

}  // namespace

std::unique_ptr<AttentionBackend> MakeCudnnAttention() { return std::make_unique<CudnnAttention>(); }

}  // namespace ithaca::engine

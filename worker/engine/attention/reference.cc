#include <ATen/ATen.h>

#include <limits>

#include "worker/engine/attention/attention_backend.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

constexpr int64_t kMostTokens = 8192;  // of a document: the scores are dense

// softmax(q k^T scale + mask) v written out in fp64, one document and one head at a time. To check the others.
class ReferenceAttention : public AttentionBackend {
 public:
  const char* name() const override { return "reference"; }

  void Forward(const QkvHeads& qkv, const HeadGroups& groups, const AttentionMask& mask, double scale,
               at::Tensor& out_THD, at::Tensor& lse_HT) override {
    ForEach(groups, mask.documents, [&](int64_t kv, int64_t head, int64_t start, int64_t length) {
      const at::Tensor scores_tt =
          Scores(Part(qkv.q_THD, head, start, length), Part(qkv.k_THD, kv, start, length), scale, mask.window);
      const at::Tensor out_tD = at::softmax(scores_tt, -1).matmul(Part(qkv.v_THD, kv, start, length));
      out_THD.narrow(0, start, length).select(1, head).copy_(out_tD);
      lse_HT.select(0, head).narrow(0, start, length).copy_(at::logsumexp(scores_tt, -1));
    });
  }

  // With P = softmax: dV = P^T dO, dP = dO V^T, dS = P (dP - rowsum(dO O)), dQ = scale dS K, dK = scale dS^T Q.
  void Backward(const at::Tensor& d_out_THD, const QkvHeads& qkv, const at::Tensor& out_THD, const at::Tensor& lse_HT,
                const HeadGroups& groups, const AttentionMask& mask, double scale, QkvHeads& gradients) override {
    const at::Tensor d_k_THD = at::zeros(gradients.k_THD.sizes(), gradients.k_THD.options().dtype(at::kDouble));
    const at::Tensor d_v_THD = at::zeros_like(d_k_THD);
    ForEach(groups, mask.documents, [&](int64_t kv, int64_t head, int64_t start, int64_t length) {
      const at::Tensor q_tD = Part(qkv.q_THD, head, start, length), k_tD = Part(qkv.k_THD, kv, start, length);
      const at::Tensor d_out_tD = Part(d_out_THD, head, start, length);
      const at::Tensor lse_t = lse_HT.select(0, head).narrow(0, start, length).to(at::kDouble);
      const at::Tensor p_tt = (Scores(q_tD, k_tD, scale, mask.window) - lse_t.unsqueeze(1)).exp();
      const at::Tensor delta_t = (d_out_tD * Part(out_THD, head, start, length)).sum(-1, true);
      const at::Tensor d_p_tt = d_out_tD.matmul(Part(qkv.v_THD, kv, start, length).t());
      const at::Tensor d_s_tt = p_tt * (d_p_tt - delta_t) * scale;
      gradients.q_THD.narrow(0, start, length).select(1, head).copy_(d_s_tt.matmul(k_tD));
      d_k_THD.narrow(0, start, length).select(1, kv).add_(d_s_tt.t().matmul(q_tD));
      d_v_THD.narrow(0, start, length).select(1, kv).add_(p_tt.t().matmul(d_out_tD));
    });
    gradients.k_THD.copy_(d_k_THD);
    gradients.v_THD.copy_(d_v_THD);
  }

 private:
  static at::Tensor Part(const at::Tensor& x_THD, int64_t head, int64_t start, int64_t length) {
    return x_THD.narrow(0, start, length).select(1, head).to(at::kDouble);
  }

  static at::Tensor Scores(const at::Tensor& q_tD, const at::Tensor& k_tD, double scale, int64_t window) {
    const at::Tensor all_tt = at::ones({q_tD.size(0), q_tD.size(0)}, q_tD.options().dtype(at::kBool));
    at::Tensor hidden_tt = all_tt.triu(1);
    if (window > 0) hidden_tt = hidden_tt.logical_or(all_tt.tril(-window));
    return (q_tD.matmul(k_tD.t()) * scale).masked_fill(hidden_tt, -std::numeric_limits<double>::infinity());
  }

  template <typename F>
  static void ForEach(const HeadGroups& groups, const DocumentStarts& documents, F f) {
    for (size_t d = 0; d + 1 < documents.size(); ++d) {
      const int64_t length = documents[d + 1] - documents[d];
      if (length > kMostTokens) {
        throw EngineError(plan::ExitCode::kInvalidConfig, "attention backend 'reference' takes documents of at most " +
                                                              std::to_string(kMostTokens) + " tokens, not " +
                                                              std::to_string(length));
      }
      if (length == 0) continue;
      for (const plan::HeadSegment& group : groups) {
        for (int head = group.query_begin; head < group.query_end; ++head) {
          f(group.kv_head, head, documents[d], length);
        }
      }
    }
  }
};

}  // namespace

std::unique_ptr<AttentionBackend> MakeReferenceAttention() { return std::make_unique<ReferenceAttention>(); }

}  // namespace ithaca::engine

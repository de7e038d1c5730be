#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "worker/engine/attention/ulysses_attention.h"

// What attention must give, by dense fp64 operations and autograd; shares no code with the backends.

namespace ithaca::engine {

inline at::Tensor RandomTensor(at::IntArrayRef sizes, int seed, at::ScalarType dtype = at::kFloat) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::randn(sizes, generator, at::kDouble).to(dtype);
}

inline double RelativeError(const at::Tensor& got, const at::Tensor& expected) {
  const at::Tensor exact = expected.to(at::kDouble);
  return (got.to(at::kDouble) - exact).norm().item<double>() / (exact.norm().item<double>() + 1e-30);
}

struct ExpectedAttention {
  at::Tensor out_THD, lse_HT, d_qkv_THD;

  // qkv_THD [T, Hq + 2 Hkv, D], d_out_THD [T, Hq, D].
  ExpectedAttention(const at::Tensor& qkv_THD, const at::Tensor& d_out_THD, int query_heads, int kv_heads,
                    const AttentionMask& mask) {
    const DocumentStarts& documents = mask.documents;
    const int64_t tokens = qkv_THD.size(0), head_dim = qkv_THD.size(2);
    const at::Tensor qkv = qkv_THD.to(at::kDouble).detach().requires_grad_(true);
    at::Tensor allowed = at::zeros({tokens, tokens}, at::kBool);
    for (size_t d = 0; d + 1 < documents.size(); ++d) {
      const int64_t start = documents[d], length = documents[d + 1] - start;
      at::Tensor visible = at::ones({length, length}, at::kBool).tril();
      if (mask.window > 0) visible = visible.triu(1 - mask.window);
      allowed.narrow(0, start, length).narrow(1, start, length).copy_(visible);
    }
    const int64_t group = query_heads / kv_heads;
    const at::Tensor q_HTD = qkv.narrow(1, 0, query_heads).transpose(0, 1);
    const at::Tensor k_HTD = qkv.narrow(1, query_heads, kv_heads).repeat_interleave(group, 1).transpose(0, 1);
    const at::Tensor v_HTD =
        qkv.narrow(1, query_heads + kv_heads, kv_heads).repeat_interleave(group, 1).transpose(0, 1);
    const at::Tensor scores = (q_HTD.matmul(k_HTD.transpose(1, 2)) / std::sqrt(static_cast<double>(head_dim)))
                                  .masked_fill(allowed.logical_not(), -INFINITY);
    const at::Tensor out = at::softmax(scores, -1).matmul(v_HTD).transpose(0, 1);
    out.backward(d_out_THD.to(at::kDouble));
    out_THD = out.detach();
    lse_HT = at::logsumexp(scores, -1).detach();
    d_qkv_THD = qkv.grad();
  }
};

}  // namespace ithaca::engine

#include "worker/engine/attention/ulysses_attention.h"

#include <ATen/ATen.h>

#include <cmath>
#include <utility>

#include "worker/engine/attention/attention_backend.h"
#include "worker/engine/attention/head_exchange.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {

struct UlyssesAttention::Impl {
  HeadExchange exchange;
  HeadGroups groups;
  int head_dim, query_heads, kv_heads;  // of this rank
  double scale;
  std::string backend_name;
  std::unique_ptr<AttentionBackend> backend;  // made at the first call, when device and dtype are known

  AttentionBackend& Backend(const QkvHeads& qkv) {
    if (backend == nullptr) backend = MakeAttentionBackend(backend_name, qkv.q_THD, groups);
    return *backend;
  }
};

UlyssesAttention::UlyssesAttention(plan::HeadPlan heads, int head_dim, Communicator& sequence_group,
                                   const std::string& backend) {
  const int rank = sequence_group.rank();
  HeadGroups groups = LocalHeadGroups(heads, rank);
  const int query_heads = heads.query_count(rank), kv_heads = heads.kv_count(rank);
  impl_.reset(new Impl{HeadExchange(std::move(heads), sequence_group), std::move(groups), head_dim, query_heads,
                       kv_heads, 1 / std::sqrt(static_cast<double>(head_dim)), backend, nullptr});
}

UlyssesAttention::~UlyssesAttention() = default;

namespace {

void CheckDocuments(const DocumentStarts& documents, int64_t tokens) {
  bool good = documents.size() >= 2 && documents.front() == 0 && documents.back() == tokens;
  for (size_t d = 0; good && d + 1 < documents.size(); ++d) good = documents[d] <= documents[d + 1];
  TORCH_CHECK(good, "documents must start at 0, ascend and end at the sequence's ", tokens, " tokens");
}

}  // namespace

at::Tensor UlyssesAttention::Forward(const at::Tensor& qkv_SHD, const AttentionMask& mask, bool keep_qkv,
                                     AttentionState& state) {
  const at::Tensor qkv_THD = impl_->exchange.ToHeads(qkv_SHD);
  CheckDocuments(mask.documents, qkv_THD.size(0));
  const QkvHeads qkv = QkvHeads::Of(qkv_THD, impl_->query_heads, impl_->kv_heads);
  state.out_THD = at::empty({qkv_THD.size(0), impl_->query_heads, impl_->head_dim}, qkv_THD.options());
  state.lse_HT = at::empty({impl_->query_heads, qkv_THD.size(0)}, qkv_THD.options().dtype(at::kFloat));
  impl_->Backend(qkv).Forward(qkv, impl_->groups, mask, impl_->scale, state.out_THD, state.lse_HT);
  state.qkv_THD = keep_qkv ? qkv_THD : at::Tensor();
  return impl_->exchange.ToTokens(state.out_THD);
}

at::Tensor UlyssesAttention::Backward(const at::Tensor& d_out_SHD, const at::Tensor& qkv_SHD, const AttentionMask& mask,
                                      AttentionState& state) {
  const at::Tensor d_out_THD = impl_->exchange.ToTokensAdjoint(d_out_SHD);
  const at::Tensor qkv_THD = state.qkv_THD.defined() ? state.qkv_THD : impl_->exchange.ToHeads(qkv_SHD);
  CheckDocuments(mask.documents, qkv_THD.size(0));
  const QkvHeads qkv = QkvHeads::Of(qkv_THD, impl_->query_heads, impl_->kv_heads);
  const at::Tensor d_qkv_THD = at::empty(qkv_THD.sizes(), qkv_THD.options());
  QkvHeads gradients = QkvHeads::Of(d_qkv_THD, impl_->query_heads, impl_->kv_heads);
  impl_->Backend(qkv).Backward(d_out_THD, qkv, state.out_THD, state.lse_HT, impl_->groups, mask, impl_->scale,
                               gradients);
  state = AttentionState();
  return impl_->exchange.ToHeadsAdjoint(d_qkv_THD);
}

at::Tensor UlyssesAttention::OutputFromState(const AttentionState& state) {
  return impl_->exchange.ToTokens(state.out_THD);
}

std::vector<DeviceSpan> UlyssesAttention::TakeExchangeSpans() { return impl_->exchange.TakeSpans(); }

}  // namespace ithaca::engine

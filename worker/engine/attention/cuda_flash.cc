#include <ATen/ATen.h>

#include <algorithm>

#include "worker/engine/attention/attention_backend.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

bool SameSize(const HeadGroups& groups) {
  return std::all_of(groups.begin(), groups.end(), [&](const plan::HeadSegment& group) {
    return group.query_end - group.query_begin == groups[0].query_end - groups[0].query_begin;
  });
}

// FlashAttention-2 through ATen's variable-length form: all documents in one call. Half precision only.
class CudaFlashAttention : public AttentionBackend {
 public:
  const char* name() const override { return "cuda_flash"; }

  void Forward(const QkvHeads& qkv, const HeadGroups& groups, const AttentionMask& mask, double scale,
               at::Tensor& out_THD, at::Tensor& lse_HT) override {
    Check(qkv.q_THD);
    const bool grouped = SameSize(groups);
    const Lengths& lengths = LengthsOf(mask.documents, qkv.q_THD.device());
    const auto [out, lse, rng_state, unused, debug] = at::_flash_attention_forward(
        qkv.q_THD, grouped ? qkv.k_THD : KvPerQueryHead(qkv.k_THD, groups),
        grouped ? qkv.v_THD : KvPerQueryHead(qkv.v_THD, groups), lengths.starts, lengths.starts, lengths.longest,
        lengths.longest, /*dropout_p=*/0.0, /*is_causal=*/true, /*return_debug_mask=*/false, scale, WindowLeft(mask),
        WindowRight(mask));
    out_THD.copy_(out);
    lse_HT.copy_(lse);
  }

  void Backward(const at::Tensor& d_out_THD, const QkvHeads& qkv, const at::Tensor& out_THD, const at::Tensor& lse_HT,
                const HeadGroups& groups, const AttentionMask& mask, double scale, QkvHeads& gradients) override {
    Check(qkv.q_THD);
    const bool grouped = SameSize(groups);
    const Lengths& lengths = LengthsOf(mask.documents, qkv.q_THD.device());
    // Of the shapes forward returns; without dropout nobody reads them.
    const at::Tensor no_rng = at::empty({2}, qkv.q_THD.options().dtype(at::kUInt64));
    const at::Tensor unused = at::empty({}, qkv.q_THD.options().dtype(at::kUInt64));
    const auto [d_q, d_k, d_v] = at::_flash_attention_backward(
        d_out_THD, qkv.q_THD, grouped ? qkv.k_THD : KvPerQueryHead(qkv.k_THD, groups),
        grouped ? qkv.v_THD : KvPerQueryHead(qkv.v_THD, groups), out_THD, lse_HT, lengths.starts, lengths.starts,
        lengths.longest, lengths.longest, /*dropout_p=*/0.0, /*is_causal=*/true, no_rng, unused, scale,
        WindowLeft(mask), WindowRight(mask));
    gradients.q_THD.copy_(d_q);
    if (grouped) {
      gradients.k_THD.copy_(d_k);
      gradients.v_THD.copy_(d_v);
    } else {
      SumOverGroups(d_k, groups, gradients.k_THD);
      SumOverGroups(d_v, groups, gradients.v_THD);
    }
  }

 private:
  struct Lengths {
    DocumentStarts documents;
    at::Tensor starts;  // int32, on the device
    int64_t longest = 0;
  };

  // Keys before and after the query; none given: no window.
  static std::optional<int64_t> WindowLeft(const AttentionMask& mask) {
    return mask.window > 0 ? std::optional<int64_t>(mask.window - 1) : std::nullopt;
  }
  static std::optional<int64_t> WindowRight(const AttentionMask& mask) {
    return mask.window > 0 ? std::optional<int64_t>(0) : std::nullopt;
  }

  // Kept from call to call, as every layer asks for the same documents; copied from pinned memory, so that the host
  // does not wait for the device.
  const Lengths& LengthsOf(const DocumentStarts& documents, at::Device device) {
    if (lengths_.documents == documents && lengths_.starts.device() == device) return lengths_;
    const at::Tensor on_host =
        at::empty({static_cast<int64_t>(documents.size())}, at::TensorOptions().dtype(at::kInt).pinned_memory(true));
    std::copy(documents.begin(), documents.end(), on_host.mutable_data_ptr<int32_t>());
    lengths_ = {documents, on_host.to(device, /*non_blocking=*/true), 0};
    for (size_t d = 0; d + 1 < documents.size(); ++d) {
      lengths_.longest = std::max(lengths_.longest, documents[d + 1] - documents[d]);
    }
    return lengths_;
  }

  static void Check(const at::Tensor& q_THD) {
    const bool half = q_THD.scalar_type() == at::kBFloat16 || q_THD.scalar_type() == at::kHalf;
    if (half && q_THD.size(2) % 8 == 0 && q_THD.size(2) <= 256) return;
    throw EngineError(
        plan::ExitCode::kInvalidConfig,
        "attention backend 'cuda_flash' takes bfloat16 and head sizes that are multiples of 8 up to 256, not " +
            std::string(at::toString(q_THD.scalar_type())) + " and " + std::to_string(q_THD.size(2)));
  }

  Lengths lengths_;
};

}  // namespace

std::unique_ptr<AttentionBackend> MakeCudaFlashAttention() { return std::make_unique<CudaFlashAttention>(); }

}  // namespace ithaca::engine

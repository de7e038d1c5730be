#include "worker/engine/attention/cuda_auto.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "worker/engine/attention/cuda_measurement.h"

namespace ithaca::engine {
namespace {

constexpr size_t kMostDocuments = 4, kMostLengths = 4;

// Both keep the same log-sum-exp, so that each sequence may go either way.
class CudnnOrFlashAttention : public AttentionBackend {
 public:
  const char* name() const override { return "cudnn or cuda_flash"; }

  void Forward(const QkvHeads& qkv, const HeadGroups& groups, const AttentionMask& mask, double scale,
               at::Tensor& out_THD, at::Tensor& lse_HT) override {
    For(mask).Forward(qkv, groups, mask, scale, out_THD, lse_HT);
  }

  void Backward(const at::Tensor& d_out_THD, const QkvHeads& qkv, const at::Tensor& out_THD, const at::Tensor& lse_HT,
                const HeadGroups& groups, const AttentionMask& mask, double scale, QkvHeads& gradients) override {
    For(mask).Backward(d_out_THD, qkv, out_THD, lse_HT, groups, mask, scale, gradients);
  }

 private:
  AttentionBackend& For(const AttentionMask& mask) {
    return mask.window == 0 && lengths_.Take(mask.documents) ? *cudnn_ : *flash_;
  }

  CudnnLengths lengths_;
  std::unique_ptr<AttentionBackend> cudnn_ = MakeCudnnAttention(), flash_ = MakeCudaFlashAttention();
};

}  // namespace

bool CudnnLengths::Take(const DocumentStarts& documents) {
  if (documents.size() > kMostDocuments + 1) return false;
  std::vector<int64_t> met = met_;
  for (size_t d = 0; d + 1 < documents.size(); ++d) {
    const int64_t length = documents[d + 1] - documents[d];
    if (length > 0 && std::find(met.begin(), met.end(), length) == met.end()) met.push_back(length);
  }
  if (met.size() > kMostLengths) return false;
  met_ = std::move(met);
  return true;
}

std::unique_ptr<AttentionBackend> MakeCudaAutoAttention(const at::Tensor& sample_THD, const HeadGroups& groups) {
  if (sample_THD.scalar_type() == at::kFloat) return MakeCudaEfficientAttention();
  std::unique_ptr<AttentionBackend> faster = FasterCudaAttention(sample_THD, groups);
  if (faster->name() != std::string("cudnn")) return faster;
  return std::make_unique<CudnnOrFlashAttention>();
}

}  // namespace ithaca::engine

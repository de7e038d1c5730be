#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "worker/engine/attention/attention_backend.h"

namespace ithaca::engine {

// "auto" on CUDA, for tensors like `sample` [T, hq, D]. fp32: cuda_efficient, as nothing else takes it. Else the faster
// of cudnn and cuda_flash (cuda_measurement.h), but documents that suit cudnn badly go to cuda_flash all the same: see
// CudnnLengths. Throws EngineError if no backend takes the model.
std::unique_ptr<AttentionBackend> MakeCudaAutoAttention(const at::Tensor& sample_THD, const HeadGroups& groups);

// Which packed documents cudnn is used for. It runs one call a document and builds and keeps a graph for every length
// it meets, which takes longer than the attention itself; cuda_flash takes all documents of any lengths in one call. So
// cudnn gets sequences of at most 4 documents, as long as it has met no more than 4 lengths in all.
class CudnnLengths {
 public:
  // Remembers the lengths it says yes to: the same documents get the same answer in backward as in forward.
  bool Take(const DocumentStarts& documents);

 private:
  std::vector<int64_t> met_;
};

}  // namespace ithaca::engine

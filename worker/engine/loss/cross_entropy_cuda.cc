#include "worker/engine/loss/cross_entropy_cuda.h"

#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include "worker/engine/loss/cross_entropy_rows_cuda.h"

namespace ithaca::engine {

at::Tensor CrossEntropyOnCuda(at::Tensor& logits_CV, const at::Tensor& labels_C, double scale) {
  TORCH_CHECK(logits_CV.is_cuda() && logits_CV.is_contiguous() && labels_C.is_contiguous(), "logits on the device");
  const c10::cuda::CUDAGuard guard(logits_CV.device());
  const cudaStream_t stream = at::cuda::getCurrentCUDAStream();
  const int64_t rows = logits_CV.size(0), vocab = logits_CV.size(1);
  const at::Tensor losses_C = at::empty({rows}, logits_CV.options().dtype(at::kDouble));
  const int64_t* const labels = labels_C.const_data_ptr<int64_t>();
  double* const losses = losses_C.mutable_data_ptr<double>();
  if (logits_CV.scalar_type() == at::kFloat) {
    cuda::CrossEntropyRows(logits_CV.mutable_data_ptr<float>(), labels, rows, vocab, static_cast<float>(scale), losses,
                           stream);
  } else {
    TORCH_CHECK(logits_CV.scalar_type() == at::kBFloat16, "logits are fp32 or bf16");
    cuda::CrossEntropyRowsBFloat16(logits_CV.mutable_data_ptr(), labels, rows, vocab, static_cast<float>(scale), losses,
                                   stream);
  }
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return losses_C.sum().view({1});
}

}  // namespace ithaca::engine

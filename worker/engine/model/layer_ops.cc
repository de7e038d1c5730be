#include "worker/engine/model/layer_ops.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <vector>

#include "worker/engine/model/cpu_kernels.h"

namespace ithaca::engine {
namespace {

constexpr int64_t kRowsPerTask = 16;

bool HasCpuKernel(const at::Tensor& tensor) {
  return tensor.is_cpu() && tensor.scalar_type() == at::kFloat && tensor.is_contiguous();
}

void RmsNormBackwardOnCpu(const at::Tensor& d_out_NE, const at::Tensor& x_NE, const at::Tensor& weight_E,
                          const at::Tensor& rstd_N, at::Tensor& d_x_NE, at::Tensor& d_weight_E) {
  const int64_t width = x_NE.size(-1);
  const int64_t rows = x_NE.numel() / width;
  const int64_t parts = at::get_num_threads();
  std::vector<double> d_weight(parts * width, 0.0);  // one row a part: the order of addition is fixed
  at::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
    for (int64_t part = first; part < last; ++part) {
      const int64_t begin = rows * part / parts;
      const int64_t end = rows * (part + 1) / parts;
      cpu::RmsNormBackwardRows(d_out_NE.const_data_ptr<float>() + begin * width,
                               x_NE.const_data_ptr<float>() + begin * width, weight_E.const_data_ptr<float>(),
                               rstd_N.const_data_ptr<float>() + begin, end - begin, width,
                               d_x_NE.mutable_data_ptr<float>() + begin * width, d_weight.data() + part * width);
    }
  });
  float* to = d_weight_E.mutable_data_ptr<float>();
  for (int64_t i = 0; i < width; ++i) {
    double sum = 0;
    for (int64_t part = 0; part < parts; ++part) sum += d_weight[part * width + i];
    to[i] += static_cast<float>(sum);
  }
}

}  // namespace

void RmsNorm(const at::Tensor& x_NE, const at::Tensor& weight_E, double eps, at::Tensor& out_NE, at::Tensor& rstd_N) {
  if (HasCpuKernel(x_NE) && HasCpuKernel(out_NE)) {
    const int64_t width = x_NE.size(-1);
    at::parallel_for(0, x_NE.numel() / width, kRowsPerTask, [&](int64_t begin, int64_t end) {
      cpu::RmsNormRows(x_NE.const_data_ptr<float>() + begin * width, weight_E.const_data_ptr<float>(),
                       static_cast<float>(eps), end - begin, width, out_NE.mutable_data_ptr<float>() + begin * width,
                       rstd_N.mutable_data_ptr<float>() + begin);
    });
    return;
  }
  const at::Tensor x = x_NE.to(at::kFloat);
  rstd_N.copy_(at::rsqrt(x.square().mean(-1) + eps));
  out_NE.copy_(weight_E * (x * rstd_N.unsqueeze(-1)).to(out_NE.scalar_type()));
}

void RmsNormBackward(const at::Tensor& d_out_NE, const at::Tensor& x_NE, const at::Tensor& weight_E,
                     const at::Tensor& rstd_N, at::Tensor& d_x_NE, at::Tensor& d_weight_E) {
  if (HasCpuKernel(d_out_NE) && HasCpuKernel(x_NE) && HasCpuKernel(d_x_NE)) {
    RmsNormBackwardOnCpu(d_out_NE, x_NE, weight_E, rstd_N, d_x_NE, d_weight_E);
    return;
  }
  const at::Tensor d_out = d_out_NE.to(at::kFloat);
  const at::Tensor rstd = rstd_N.unsqueeze(-1);
  const at::Tensor normal = x_NE.to(at::kFloat) * rstd;
  d_weight_E.add_((d_out * normal).reshape({-1, d_weight_E.size(0)}).sum(0));
  const at::Tensor d_normal = d_out * weight_E.to(at::kFloat);
  d_x_NE.add_((rstd * (d_normal - normal * (d_normal * normal).mean(-1, /*keepdim=*/true))).to(d_x_NE.scalar_type()));
}

void ApplyRope(at::Tensor& qkv_SHD, int64_t heads, const RopeTable& table, bool inverse) {
  const int64_t head_dim = qkv_SHD.size(2);
  if (HasCpuKernel(qkv_SHD)) {
    const int64_t stride = qkv_SHD.stride(0);
    at::parallel_for(0, qkv_SHD.size(0), kRowsPerTask, [&](int64_t begin, int64_t end) {
      cpu::RopeRows(qkv_SHD.mutable_data_ptr<float>() + begin * stride,
                    table.cos_SD2.const_data_ptr<float>() + begin * head_dim / 2,
                    table.sin_SD2.const_data_ptr<float>() + begin * head_dim / 2, inverse ? -1.0f : 1.0f, end - begin,
                    stride, heads, head_dim);
    });
    return;
  }
  const at::Tensor cos = table.cos_SD2.unsqueeze(1);
  const at::Tensor sin = inverse ? table.sin_SD2.unsqueeze(1).neg() : table.sin_SD2.unsqueeze(1);
  const at::Tensor rotated = qkv_SHD.narrow(1, 0, heads);
  const at::Tensor a = rotated.narrow(2, 0, head_dim / 2).to(at::kFloat);
  const at::Tensor b = rotated.narrow(2, head_dim / 2, head_dim / 2).to(at::kFloat);
  rotated.copy_(at::cat({a * cos - b * sin, b * cos + a * sin}, 2));
}

void SwiGlu(const at::Tensor& gate_up_N2I, at::Tensor& out_NI) {
  const int64_t width = out_NI.size(1);
  if (HasCpuKernel(gate_up_N2I) && HasCpuKernel(out_NI)) {
    at::parallel_for(0, out_NI.size(0), kRowsPerTask, [&](int64_t begin, int64_t end) {
      cpu::SwiGluRows(gate_up_N2I.const_data_ptr<float>() + begin * 2 * width, end - begin, width,
                      out_NI.mutable_data_ptr<float>() + begin * width);
    });
    return;
  }
  at::mul_out(out_NI, at::silu(gate_up_N2I.narrow(1, 0, width)), gate_up_N2I.narrow(1, width, width));
}

void SwiGluBackward(at::Tensor& gate_up_N2I, at::Tensor& d_out_NI) {
  const int64_t width = d_out_NI.size(1);
  if (HasCpuKernel(gate_up_N2I) && HasCpuKernel(d_out_NI)) {
    at::parallel_for(0, d_out_NI.size(0), kRowsPerTask, [&](int64_t begin, int64_t end) {
      cpu::SwiGluBackwardRows(gate_up_N2I.mutable_data_ptr<float>() + begin * 2 * width,
                              d_out_NI.mutable_data_ptr<float>() + begin * width, end - begin, width);
    });
    return;
  }
  at::Tensor gate = gate_up_N2I.narrow(1, 0, width);
  at::Tensor up = gate_up_N2I.narrow(1, width, width);
  const at::Tensor silu = at::silu(gate);
  gate.copy_(at::silu_backward(d_out_NI * up, gate));
  const at::Tensor d_up = d_out_NI * silu;
  at::mul_out(d_out_NI, silu, up);
  up.copy_(d_up);
}

}  // namespace ithaca::engine

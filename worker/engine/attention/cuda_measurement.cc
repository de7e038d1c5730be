#include "worker/engine/attention/cuda_measurement.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <string>

#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

// The host waits for the device by reading one number of the result.
void Synchronize(const at::Tensor& tensor) { tensor.flatten()[0].item(); }

// Seconds of the best of three forwards and backwards, after one that is not counted.
double Measure(AttentionBackend& backend, const at::Tensor& sample_THD, const HeadGroups& groups) {
  const int64_t tokens = std::min<int64_t>(sample_THD.size(0), 8192), head_dim = sample_THD.size(2);
  const int64_t query_heads = groups.back().query_end, kv_heads = groups.back().kv_head + 1;
  const at::Tensor qkv_THD = at::ones({tokens, query_heads + 2 * kv_heads, head_dim}, sample_THD.options());
  at::Tensor d_qkv_THD = at::empty_like(qkv_THD);
  at::Tensor out_THD = at::empty({tokens, query_heads, head_dim}, sample_THD.options());
  at::Tensor lse_HT = at::empty({query_heads, tokens}, sample_THD.options().dtype(at::kFloat));
  const QkvHeads qkv = QkvHeads::Of(qkv_THD, query_heads, kv_heads);
  QkvHeads gradients = QkvHeads::Of(d_qkv_THD, query_heads, kv_heads);
  const DocumentStarts one_document{0, tokens};
  const double scale = 1 / std::sqrt(static_cast<double>(head_dim));
  double best = std::numeric_limits<double>::infinity();
  for (int run = 0; run < 4; ++run) {
    Synchronize(d_qkv_THD);
    const auto start = std::chrono::steady_clock::now();
    backend.Forward(qkv, groups, one_document, scale, out_THD, lse_HT);
    backend.Backward(out_THD, qkv, out_THD, lse_HT, groups, one_document, scale, gradients);
    Synchronize(d_qkv_THD);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    if (run > 0) best = std::min(best, taken.count());
  }
  return best;
}

}  // namespace

std::unique_ptr<AttentionBackend> FasterCudaAttention(const at::Tensor& sample_THD, const HeadGroups& groups) {
  using Maker = std::unique_ptr<AttentionBackend> (*)();
  static std::mutex mutex;
  static std::map<std::string, Maker> chosen;
  const std::string key = sample_THD.toString() + " " + std::to_string(std::min<int64_t>(sample_THD.size(0), 8192)) +
                          " " + std::to_string(groups.back().query_end) + " " +
                          std::to_string(groups.back().kv_head + 1) + " " + std::to_string(sample_THD.size(2));
  const std::lock_guard<std::mutex> lock(mutex);
  if (const auto it = chosen.find(key); it != chosen.end()) return it->second();
  Maker best = nullptr;
  double best_seconds = std::numeric_limits<double>::infinity();
  std::string refusals;
  for (const Maker make : {&MakeCudnnAttention, &MakeCudaFlashAttention}) {
    const std::unique_ptr<AttentionBackend> backend = make();
    try {
      const double seconds = Measure(*backend, sample_THD, groups);
      if (seconds < best_seconds) {
        best = make;
        best_seconds = seconds;
      }
    } catch (const c10::OutOfMemoryError&) {
      throw;  // says nothing about the backend
    } catch (const std::exception& error) {
      const std::string text = error.what();
      refusals += std::string("; ") + backend->name() + ": " + text.substr(0, text.find('\n'));
    }
  }
  if (best == nullptr) {
    throw EngineError(plan::ExitCode::kInvalidConfig, "no CUDA attention backend takes this model" + refusals);
  }
  return chosen.emplace(key, best).first->second();
}

}  // namespace ithaca::engine

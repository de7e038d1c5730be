#include "worker/engine/attention/attention_backend.h"

#include <ATen/ATen.h>

#include "worker/engine/attention/cuda_auto.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {

QkvHeads QkvHeads::Of(const at::Tensor& qkv_THD, int64_t query_heads, int64_t kv_heads) {
  return {qkv_THD.narrow(1, 0, query_heads), qkv_THD.narrow(1, query_heads, kv_heads),
          qkv_THD.narrow(1, query_heads + kv_heads, kv_heads)};
}

HeadGroups LocalHeadGroups(const plan::HeadPlan& heads, int rank) {
  HeadGroups groups = heads.Segments(rank);
  for (plan::HeadSegment& group : groups) {
    group.kv_head -= heads.kv_begin(rank);
    group.query_begin -= heads.query_begin(rank);
    group.query_end -= heads.query_begin(rank);
  }
  return groups;
}

void RefuseWindow(const AttentionMask& mask, const char* backend) {
  if (mask.window == 0) return;
  throw EngineError(plan::ExitCode::kInvalidConfig,
                    std::string("attention backend '") + backend + "' does not do sliding windows");
}

at::Tensor KvPerQueryHead(const at::Tensor& kv_THD, const HeadGroups& groups) {
  at::Tensor expanded_THD = at::empty({kv_THD.size(0), groups.back().query_end, kv_THD.size(2)}, kv_THD.options());
  for (const plan::HeadSegment& group : groups) {
    expanded_THD.narrow(1, group.query_begin, group.query_end - group.query_begin)
        .copy_(kv_THD.narrow(1, group.kv_head, 1));
  }
  return expanded_THD;
}

void SumOverGroups(const at::Tensor& d_expanded_THD, const HeadGroups& groups, at::Tensor& d_kv_THD) {
  for (const plan::HeadSegment& group : groups) {
    at::Tensor sum_TD = d_expanded_THD.select(1, group.query_begin).to(at::kFloat, false, true);
    for (int head = group.query_begin + 1; head < group.query_end; ++head) sum_TD += d_expanded_THD.select(1, head);
    d_kv_THD.select(1, group.kv_head).copy_(sum_TD);
  }
}

std::unique_ptr<AttentionBackend> MakeAttentionBackend(const std::string& name, const at::Tensor& sample_THD,
                                                       const HeadGroups& groups) {
  if (name == "auto") {
    return sample_THD.is_cuda() ? MakeCudaAutoAttention(sample_THD, groups) : MakeCpuBlockedAttention();
  }
  struct Entry {
    const char* name;
    std::unique_ptr<AttentionBackend> (*make)();
    bool on_cpu, on_cuda;
  };
  static constexpr Entry kEntries[] = {{"reference", MakeReferenceAttention, true, true},
                                       {"cpu_flash", MakeCpuFlashAttention, true, false},
                                       {"cpu_blocked", MakeCpuBlockedAttention, true, false},
                                       {"cudnn", MakeCudnnAttention, false, true},
                                       {"cuda_flash", MakeCudaFlashAttention, false, true},
                                       {"cuda_efficient", MakeCudaEfficientAttention, false, true}};
  for (const Entry& entry : kEntries) {
    if (name != entry.name) continue;
    if (sample_THD.is_cuda() ? entry.on_cuda : entry.on_cpu) return entry.make();
    throw EngineError(plan::ExitCode::kInvalidConfig,
                      "attention backend '" + name + "' does not run on " + sample_THD.device().str());
  }
  throw EngineError(plan::ExitCode::kInvalidConfig, "there is no attention backend '" + name +
                                                        "'; there are auto, reference, cpu_flash, cpu_blocked, cudnn, "
                                                        "cuda_flash and cuda_efficient");
}

}  // namespace ithaca::engine

#include "worker/plan/memory_terms.h"

#include <algorithm>
#include <cstdio>
#include <string>

#include "worker/plan/head_plan.h"

// T tokens of the padded sequence, S = T / P of a shard, E hidden size, I intermediate size, L layers, V vocabulary, D
// head size; Hq, Hkv heads of the model, hq, hkv heads of the fullest rank; b bytes of the training dtype.

namespace ithaca::plan {
namespace {

constexpr int64_t kFloatBytes = 4;
constexpr int64_t kMiB = int64_t{1} << 20;

// Stacks, thread pools, allocator slack, and on CUDA the context and library handles. Measured: docs/memory_plan.md.
constexpr int64_t kCpuRuntimeBytes = 96 * kMiB;
constexpr int64_t kCudaRuntimeBytes = 900 * kMiB;

// "134.5 M", "49.2 K".
std::string Count(double n) {
  const char* unit = n >= 1e9 ? " G" : n >= 1e6 ? " M" : n >= 1e4 ? " K" : "";
  const double scaled = n >= 1e9 ? n / 1e9 : n >= 1e6 ? n / 1e6 : n >= 1e4 ? n / 1e3 : n;
  char text[32];
  std::snprintf(text, sizeof text, *unit ? "%.1f%s" : "%.0f%s", scaled, unit);
  return text;
}

std::string Number(int64_t n) { return std::to_string(n); }

// Sizes every term needs.
struct Sizes {
  Sizes(const ModelConfig& m, const MemoryPlan& p) : model(m), plan(p) {
    const HeadPlan heads(static_cast<int>(m.query_heads), static_cast<int>(m.kv_heads), p.sequence_ranks);
    hq = heads.max_query_count();
    hkv = heads.max_kv_count();
    T = p.padded_sequence_length;
    S = T / p.sequence_ranks;
    b = p.dtype == DType::kBFloat16 ? 2 : 4;
    qkv_shard = S * (m.query_heads + 2 * m.kv_heads) * m.head_dim * b;
    qkv_heads = T * (hq + 2 * hkv) * m.head_dim * b;
    out_heads = T * hq * m.head_dim * b;
    stream = S * m.hidden_size * b;
  }
  const ModelConfig& model;
  const MemoryPlan& plan;
  int64_t hq, hkv, T, S, b;
  int64_t qkv_shard;  // [S, Hq + 2 Hkv, D]
  int64_t qkv_heads;  // [T, hq + 2 hkv, D]
  int64_t out_heads;  // [T, hq, D]
  int64_t stream;     // [S, E]
};

MemoryTerm LayerInputsTerm(const Sizes& z) {
  const ModelConfig& m = z.model;
  MemoryTerm term{"layer_inputs", (m.layers + 1) * z.stream,
                  "(" + Number(m.layers) + " + 1) layers x " + Count(z.S) + " tokens x " + Number(m.hidden_size) +
                      " x " + Number(z.b) + " B"};
  if (z.plan.layer_inputs == LayerInputs::kKeep) {
    term.bytes += m.layers * (z.qkv_heads + z.stream + z.S * 2 * m.intermediate_size * z.b);
    term.formula += " + qkv, hidden, gate and up";
  }
  return term;
}

MemoryTerm AttentionTerm(const Sizes& z) {
  // The shard's q, k, v and their gradient; what the backend holds for the heads of this rank: q, k, v and their
  // gradients, the output's gradient.
  int64_t bytes = 2 * z.qkv_shard + z.qkv_heads + 2 * z.out_heads;
  if (z.plan.sequence_ranks > 1) bytes += z.qkv_heads;
  if (z.model.qk_norm) bytes += 2 * z.qkv_shard;
  return {"attention", bytes,
          "q, k, v, output and gradients of " + Number(z.hq) + "+" + Number(2 * z.hkv) + " heads x " + Count(z.T) +
              " tokens"};
}

MemoryTerm MlpTerm(const Sizes& z) {
  const int64_t tile = z.plan.mlp_tile > 0 ? std::min(z.plan.mlp_tile, z.S) : z.S;
  return {"mlp", tile * 3 * z.model.intermediate_size * z.b + 6 * z.stream,
          Count(tile) + " tokens x 3 x " + Number(z.model.intermediate_size) + " x " + Number(z.b) +
              " B + 6 of the residual stream"};
}

MemoryTerm HeadChunkTerm(const Sizes& z) {
  const int64_t chunk = std::min(z.plan.loss_chunk, z.S);
  const int64_t bytes_each = z.b == kFloatBytes ? kFloatBytes : z.b + 2 * kFloatBytes;
  return {"head_chunk", chunk * z.model.vocab_size * bytes_each,
          Number(chunk) + " tokens x " + Number(z.model.vocab_size) + " logits x " + Number(bytes_each) + " B"};
}

MemoryTerm ExchangeTerm(const Sizes& z) {
  if (z.plan.sequence_ranks == 1) return {"exchange", 0, "one rank exchanges nothing"};
  return {"exchange", 2 * std::max(z.qkv_shard, z.qkv_heads), "send and receive buffer of one all-to-all"};
}

}  // namespace

std::vector<MemoryTerm> MemoryTerms(const ModelConfig& model, const MemoryPlan& plan) {
  const Sizes z(model, plan);
  const int64_t n = model.Parameters();
  const int64_t state = z.b == kFloatBytes ? 2 * kFloatBytes : 3 * kFloatBytes;
  const bool cuda = plan.device == DeviceKind::kCuda;
  return {
      {"parameters", n * z.b, Count(static_cast<double>(n)) + " x " + Number(z.b) + " B"},
      {"gradients", n * kFloatBytes, Count(static_cast<double>(n)) + " x 4 B (fp32 sums)"},
      {"optimizer", n * state,
       Count(static_cast<double>(n)) + " x " + Number(state) + " B (AdamW, fp32" +
           (state == 3 * kFloatBytes ? ", with master weights)" : ")")},
      LayerInputsTerm(z),
      {"attention_outputs", model.layers * (z.out_heads + z.T * z.hq * kFloatBytes),
       Number(model.layers) + " layers x " + Count(z.T) + " tokens x " + Number(z.hq) + " heads x (" +
           Number(model.head_dim) + " x " + Number(z.b) + " + 4) B"},
      AttentionTerm(z),
      MlpTerm(z),
      HeadChunkTerm(z),
      ExchangeTerm(z),
      {"data", z.T * 5 * static_cast<int64_t>(sizeof(int64_t)), "ids, labels, positions of a sequence"},
      {"runtime", cuda ? kCudaRuntimeBytes : kCpuRuntimeBytes,
       cuda ? "CUDA context, NCCL, library workspaces" : "threads, libraries, allocator slack"},
  };
}

int64_t TotalBytes(const std::vector<MemoryTerm>& terms) {
  int64_t total = 0;
  for (const MemoryTerm& term : terms) total += term.bytes;
  return total;
}

}  // namespace ithaca::plan

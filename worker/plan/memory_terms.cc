#include "worker/plan/memory_terms.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>

#include "worker/plan/head_plan.h"

// T tokens of the padded sequence, S = T / P of a shard, E hidden size, I intermediate size, L layers, V vocabulary, D
// head size; Hq, Hkv heads of the model, hq, hkv heads of a rank; b bytes of the training dtype.
//
// Scratch tensors of the engine have names and stay (worker/engine/memory/workspace.h), so what attention, MLP and head
// hold adds up. What a phase allocates and frees again does not: only the largest of these counts, in its own term.

namespace ithaca::plan {
namespace {

constexpr int64_t kFloatBytes = 4;
constexpr int64_t kMiB = int64_t{1} << 20;

// Stacks, thread pools, allocator slack, and on CUDA the context and library handles. Measured: docs/memory_plan.md.
constexpr int64_t kCpuRuntimeBytes = 160 * kMiB;
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

// Sizes every term needs, in bytes of the training dtype unless said otherwise.
struct Sizes {
  Sizes(const ModelConfig& m, const MemoryPlan& p, const HeadPlan& heads, int rank)
      : model(m), plan(p), hq(heads.query_count(rank)), hkv(heads.kv_count(rank)) {
    T = p.padded_sequence_length;
    S = T / p.sequence_ranks;
    b = p.dtype == DType::kBFloat16 ? 2 : 4;
    D = m.head_dim;
    keep = p.layer_inputs == LayerInputs::kKeep;
    segment = p.segment_layers;
    held_layers = p.attention_outputs == AttentionOutputs::kKeep ? m.layers : segment;
    tile = p.mlp_tile > 0 ? std::min(p.mlp_tile, S) : S;
    chunk = std::min(p.loss_chunk, S);
    stream = S * m.hidden_size * b;
    out_shard = S * m.query_heads * D * b;
    out_heads = T * hq * D * b;
    qkv_shard = S * (m.query_heads + 2 * m.kv_heads) * D * b;
    qkv_heads = T * (hq + 2 * hkv) * D * b;
    for (int r = 0; r < p.sequence_ranks; ++r) sent += S * (heads.query_count(r) + 2 * heads.kv_count(r)) * D * b;
    // Only fp32 on a CPU has kernels that need no intermediate results.
    fused = p.device == DeviceKind::kCpu && p.dtype == DType::kFloat32;
  }
  const ModelConfig& model;
  const MemoryPlan& plan;
  int64_t hq, hkv, T, S, b, D, tile, chunk;
  int64_t segment;      // layers between two that keep their input
  int64_t held_layers;  // whose attention output is there at a time
  bool keep, fused;
  int64_t stream;     // [S, E]
  int64_t out_shard;  // [S, Hq, D]
  int64_t out_heads;  // [T, hq, D]
  int64_t qkv_shard;  // [S, Hq + 2 Hkv, D]
  int64_t qkv_heads;  // [T, hq + 2 hkv, D]
  int64_t sent = 0;   // [S, sum of hq + 2 hkv over ranks, D]: a KV head goes to every rank that needs it
};

// A term and what its phase allocates beyond it for a while.
struct Phase {
  MemoryTerm term;
  int64_t transient = 0;
  std::string transient_formula;
};

MemoryTerm LayerInputsTerm(const Sizes& z) {
  const ModelConfig& m = z.model;
  const int64_t segments = (m.layers + z.segment - 1) / z.segment;
  MemoryTerm term{"layer_inputs", (segments + z.segment) * z.stream,
                  "(" + Number(segments) + " + " + Number(z.segment) + ") layers x " + Number(z.S) + " tokens x " +
                      Number(m.hidden_size) + " x " + Number(z.b) + " B"};
  if (z.keep) {
    term.bytes += m.layers * (z.qkv_heads + z.stream + z.S * 2 * m.intermediate_size * z.b);
    term.formula += " + qkv, hidden, MLP";
  }
  return term;
}

// What the blocked CPU kernel holds, fp32, heads padded to a multiple of 16: q, dO, k and panels of k and v, and a copy
// of dQ for every run of keys that is worked on at a time (worker/engine/attention/cpu_blocked.cc).
int64_t BlockedAttentionBytes(const Sizes& z, int threads) {
  const int64_t padded = (z.D + 15) / 16 * 16;
  const int runs = threads == 1 ? 1 : std::clamp<int>(std::ceil(3.0 * threads / static_cast<double>(z.hkv)), 1, 8);
  double d_q = 0;  // run r starts behind a share r / runs of the causal triangle
  for (int run = 0; run < runs; ++run) d_q += std::sqrt(1 - static_cast<double>(run) / runs);
  const double floats = static_cast<double>(z.T) * (static_cast<double>(z.hq * padded) * (2 + d_q) +
                                                    static_cast<double>(3 * z.hkv * padded + z.hq));
  return static_cast<int64_t>(floats * kFloatBytes);
}

Phase AttentionPhase(const Sizes& z, int threads) {
  const ModelConfig& m = z.model;
  int64_t held = 4 * z.stream + z.out_shard + z.S * z.D * kFloatBytes;  // norms, hidden, dO, RoPE table
  if (!z.keep || m.qk_norm) held += z.qkv_shard;
  if (m.qk_norm) held += 2 * z.qkv_shard;
  int64_t kernel = 0;
  if (z.plan.device == DeviceKind::kCpu) {
    held += BlockedAttentionBytes(z, threads);
  } else {
    // K, V, dK and dV for every query head, dQ, dK, dV of the kernel, and its fp32 sum of dQ.
    kernel = 7 * z.out_heads + z.T * z.hq * z.D * kFloatBytes;
  }
  const bool one_rank = z.plan.sequence_ranks == 1;
  const int64_t gradients = z.qkv_heads * (one_rank || z.keep ? 1 : 2);
  // Beside dQ, dK and dV: what ATen needs to turn them back, and the norm of Qwen3's heads, which has no kernel.
  int64_t back = z.fused ? 0 : 3 * z.S * (m.query_heads + m.kv_heads) * z.D * kFloatBytes;
  if (m.qk_norm) back = std::max(back, (z.fused ? 5 : 7) * z.S * m.query_heads * z.D * kFloatBytes);
  return {{"attention", held,
           "q, k, v, output and gradients of " + Number(z.hq) + "+" + Number(2 * z.hkv) + " heads x " + Number(z.T) +
               " tokens"},
          std::max(gradients + kernel, back == 0 ? 0 : z.qkv_shard + back)};
}

// Buffers of the exchanges in backward, all alive when dQ, dK and dV come back.
Phase ExchangePhase(const Sizes& z) {
  if (z.plan.sequence_ranks == 1) return {{"exchange", 0, "one rank exchanges nothing"}, 0};
  return {{"exchange", 0, "output, dO, dQ, dK, dV on their way"}, z.out_shard + z.out_heads + z.sent + z.qkv_shard};
}

Phase MlpPhase(const Sizes& z) {
  const ModelConfig& m = z.model;
  const int64_t tensors = z.keep ? 1 : 3;
  Phase phase{{"mlp", z.tile * tensors * m.intermediate_size * z.b,
               Number(z.tile) + " tokens x " + Number(tensors) + " x " + Number(m.intermediate_size) + " x " +
                   Number(z.b) + " B"}};
  if (!z.fused) {
    const int64_t norm = 6 * z.S * m.hidden_size * kFloatBytes;
    int64_t tile = 3 * z.tile * m.intermediate_size * z.b;
    if (z.plan.device == DeviceKind::kCpu) {
      tile = std::max(tile, z.tile * (2 * m.intermediate_size + m.hidden_size) * kFloatBytes);
    }
    phase.transient = std::max(norm, tile);
  }
  return phase;
}

Phase HeadPhase(const Sizes& z) {
  Phase phase{{"head_chunk", z.chunk * z.model.vocab_size * z.b + 2 * z.stream,
               Number(z.chunk) + " tokens x " + Number(z.model.vocab_size) + " logits x " + Number(z.b) + " B"}};
  if (z.plan.device == DeviceKind::kCpu && !z.fused) {
    phase.transient = z.chunk * z.model.vocab_size * 2 * kFloatBytes;
  }
  return phase;
}

// Adds the transient bytes of the phase that has most.
void ChargeLargest(Phase& attention, Phase& exchange, Phase& mlp, Phase& head) {
  const int64_t together = attention.transient + exchange.transient;
  if (together >= std::max(mlp.transient, head.transient)) {
    attention.term.bytes += attention.transient;
    exchange.term.bytes += exchange.transient;
  } else if (mlp.transient > head.transient) {
    mlp.term.bytes += mlp.transient;
    mlp.term.formula += " + intermediate results";
  } else {
    head.term.bytes += head.transient;
    head.term.formula += " + fp32 copies";
  }
}

std::vector<MemoryTerm> TermsOfRank(const Sizes& z, int threads) {
  const int64_t n = z.model.Parameters();
  const int64_t parts = z.plan.sharding == Sharding::kOptimizer ? z.plan.world_size() : 1;
  const int64_t state = z.b == kFloatBytes ? 2 * kFloatBytes : 3 * kFloatBytes;
  const bool cuda = z.plan.device == DeviceKind::kCuda;
  Phase attention = AttentionPhase(z, threads);
  Phase exchange = ExchangePhase(z);
  Phase mlp = MlpPhase(z);
  Phase head = HeadPhase(z);
  ChargeLargest(attention, exchange, mlp, head);
  return {
      {"parameters", n * z.b, Count(static_cast<double>(n)) + " x " + Number(z.b) + " B"},
      {"gradients", n * kFloatBytes, Count(static_cast<double>(n)) + " x 4 B (fp32 sums)"},
      {"optimizer", (n + parts - 1) / parts * state,
       Count(static_cast<double>(n)) + (parts > 1 ? " / " + Number(parts) + " ranks" : "") + " x " + Number(state) +
           " B (AdamW, fp32" + (state == 3 * kFloatBytes ? ", with master weights)" : ")")},
      LayerInputsTerm(z),
      {"attention_outputs", z.held_layers * (z.out_heads + z.T * z.hq * kFloatBytes),
       Number(z.held_layers) + " layers x " + Number(z.T) + " tokens x " + Number(z.hq) + " heads x (" + Number(z.D) +
           " x " + Number(z.b) + " + 4) B"},
      attention.term,
      mlp.term,
      head.term,
      exchange.term,
      {"data", z.T * 5 * static_cast<int64_t>(sizeof(int64_t)), "ids, labels, positions of a sequence"},
      {"runtime", cuda ? kCudaRuntimeBytes : kCpuRuntimeBytes,
       cuda ? "CUDA context, NCCL, library workspaces" : "threads, libraries, allocator slack"},
  };
}

}  // namespace

std::vector<MemoryTerm> MemoryTerms(const ModelConfig& model, const MemoryPlan& plan) {
  const HeadPlan heads(static_cast<int>(model.query_heads), static_cast<int>(model.kv_heads), plan.sequence_ranks);
  std::vector<MemoryTerm> fullest;
  for (int rank = 0; rank < heads.ranks(); ++rank) {
    std::vector<MemoryTerm> terms = TermsOfRank(Sizes(model, plan, heads, rank), plan.threads);
    if (fullest.empty() || TotalBytes(terms) > TotalBytes(fullest)) fullest = std::move(terms);
  }
  return fullest;
}

int64_t TotalBytes(const std::vector<MemoryTerm>& terms) {
  int64_t total = 0;
  for (const MemoryTerm& term : terms) total += term.bytes;
  return total;
}

}  // namespace ithaca::plan

#include "worker/engine/attention/cpu_blocked.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "worker/engine/attention/blocked_layout.h"
#include "worker/engine/attention/parallel_units.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

using blocked::DocumentLayout;
using blocked::TokenRange;

int64_t WindowOf(const AttentionMask& mask) { return mask.window > 0 ? mask.window : blocked::kNoWindow; }

constexpr double kLog2e = 1.4426950408889634;
constexpr double kLn2 = 0.69314718055994531;

// Parts of one fp32 buffer that is kept between calls and only grows.
class Workspace {
 public:
  // Offsets are handed out first, memory once all are known.
  int64_t Reserve(int64_t floats) {
    const int64_t offset = size_;
    size_ += (floats + 15) / 16 * 16;
    return offset;
  }
  void Allocate() {
    if (!buffer_.defined() || buffer_.numel() < size_) buffer_ = at::empty({size_}, at::kFloat);
    base_ = buffer_.data_ptr<float>();
  }
  void Reset() { size_ = 0; }
  float* at(int64_t offset) const { return base_ + offset; }

 private:
  at::Tensor buffer_;
  float* base_ = nullptr;
  int64_t size_ = 0;
};

struct Shape {
  int64_t query_heads, kv_heads, head_dim;  // head_dim is padded
  std::vector<int64_t> kv_of;               // of each query head

  Shape(const QkvHeads& qkv, const HeadGroups& groups)
      : query_heads(qkv.q_THD.size(1)),
        kv_heads(qkv.k_THD.size(1)),
        head_dim((qkv.q_THD.size(2) + blocked::kHeadMultiple - 1) / blocked::kHeadMultiple * blocked::kHeadMultiple) {
    for (const plan::HeadSegment& group : groups) kv_of.resize(group.query_end, group.kv_head);
  }
};

// Attention in tiles that fit the caches, fp32 arithmetic whatever the dtype, online softmax (arXiv 2205.14135); tiles
// that are wholly in a query's future, before its window or in another document are not touched. The order of every sum
// is fixed by the shapes and the number of threads, not by which thread does what.
class CpuBlockedAttention : public AttentionBackend {
 public:
  explicit CpuBlockedAttention(const blocked::Kernels& kernels) : kernels_(kernels) {}
  const char* name() const override { return "cpu_blocked"; }

  void Forward(const QkvHeads& qkv, const HeadGroups& groups, const AttentionMask& mask, double scale,
               at::Tensor& out_THD, at::Tensor& lse_HT) override;
  void Backward(const at::Tensor& d_out_THD, const QkvHeads& qkv, const at::Tensor& out_THD, const at::Tensor& lse_HT,
                const HeadGroups& groups, const AttentionMask& mask, double scale, QkvHeads& gradients) override;

 private:
  struct Backwards;

  static void Check(const QkvHeads& qkv);
  static void PackInputs(const Backwards& b);
  static void KeyGradients(const Backwards& b, int64_t run, int64_t kv, float* scratch);
  static void QueryGradients(const Backwards& b);

  const blocked::Kernels& kernels_;
  Workspace workspace_;
};

void CpuBlockedAttention::Check(const QkvHeads& qkv) {
  const at::ScalarType dtype = qkv.q_THD.scalar_type();
  if (!qkv.q_THD.is_cpu() || (dtype != at::kFloat && dtype != at::kBFloat16)) {
    throw EngineError(plan::ExitCode::kInvalidConfig,
                      std::string("attention backend 'cpu_blocked' takes float32 and bfloat16 on CPU, not ") +
                          at::toString(dtype) + " on " + qkv.q_THD.device().str());
  }
}

void CpuBlockedAttention::Forward(const QkvHeads& qkv, const HeadGroups& groups, const AttentionMask& mask,
                                  double scale, at::Tensor& out_THD, at::Tensor& lse_HT) {
  Check(qkv);
  const DocumentLayout layout(mask.documents);
  const Shape shape(qkv, groups);
  const int64_t D = shape.head_dim, rows = blocked::kQueryBlock;
  const int64_t panels_size = layout.padded_tokens() * D, values_size = layout.tokens() * D;
  const int64_t thread_size = 2 * rows * D + blocked::kForwardScratch;
  workspace_.Reset();
  const int64_t panels = workspace_.Reserve(shape.kv_heads * panels_size);
  const int64_t values = workspace_.Reserve(shape.kv_heads * values_size);
  const int64_t threads = workspace_.Reserve(UnitThreads() * thread_size);
  workspace_.Allocate();

  const std::vector<TokenRange> pieces = layout.Cut(8 * blocked::kPanel);
  const int64_t piece_count = static_cast<int64_t>(pieces.size());
  ParallelUnits(piece_count * shape.kv_heads, [&](int64_t unit, int) {
    const TokenRange& piece = pieces[unit % piece_count];
    const int64_t kv = unit / piece_count, begin = layout.begin(piece.document);
    const int64_t padded = layout.padded_begin(piece.document) + piece.begin - begin;
    blocked::PackPanels(qkv.k_THD, kv, piece, workspace_.at(panels + kv * panels_size + padded * D), D);
    blocked::PackRows(qkv.v_THD, kv, piece, 1, workspace_.at(values + kv * values_size + piece.begin * D), D);
  });

  float* const lse = lse_HT.data_ptr<float>();
  const std::vector<TokenRange> blocks = layout.Cut(rows);
  ParallelUnits(static_cast<int64_t>(blocks.size()) * shape.query_heads, [&](int64_t unit, int thread) {
    const TokenRange& block = blocks[unit / shape.query_heads];
    const int64_t head = unit % shape.query_heads, kv = shape.kv_of[head], begin = layout.begin(block.document);
    float* const q = workspace_.at(threads + thread * thread_size);
    float* const out = q + rows * D;
    blocked::PackRows(qkv.q_THD, head, block, static_cast<float>(scale * kLog2e), q, D);
    kernels_.forward(
        {.query_begin = block.begin - begin,
         .rows = block.end - block.begin,
         .head_dim = D,
         .window = WindowOf(mask),
         .q = q,
         .k_transposed = workspace_.at(panels + kv * panels_size + layout.padded_begin(block.document) * D),
         .v = workspace_.at(values + kv * values_size + begin * D),
         .out = out,
         .lse = lse + head * layout.tokens() + block.begin,
         .scratch = out + rows * D});
    blocked::UnpackRows(out, D, 1, out_THD, head, block);
  });
}

// What the steps of one backward share.
struct CpuBlockedAttention::Backwards {
  const at::Tensor& d_out_THD;
  const QkvHeads& qkv;
  const at::Tensor& out_THD;
  const float* lse_HT;
  QkvHeads& gradients;
  double scale;
  int64_t window;
  const blocked::Kernels& kernels;
  DocumentLayout layout;
  Shape shape;
  std::vector<int64_t> first_run;  // of each document, in `runs`
  std::vector<TokenRange> runs;    // of keys, each with its own part of the query gradients
  // Packed inputs by head: [tokens][D], panels [padded tokens][D], and delta [tokens].
  float *q, *d_out, *delta, *k, *k_panels, *v_panels;
  std::vector<int64_t> d_q_offset;  // of each run: [query heads][tokens from the run's first key on][D]
  float* d_q;
  float* scratch;
  int64_t scratch_size;

  int64_t Rows(int64_t head, int64_t token) const { return (head * layout.tokens() + token) * shape.head_dim; }
  int64_t Panels(int64_t kv, int64_t document, int64_t token) const {
    return (kv * layout.padded_tokens() + layout.padded_begin(document) + token - layout.begin(document)) *
           shape.head_dim;
  }
  int64_t Queries(int64_t run) const {  // that see the run's keys
    const TokenRange& keys = runs[run];
    return layout.begin(keys.document) + layout.length(keys.document) - keys.begin;
  }
  float* QueryGradient(int64_t run, int64_t head) const {
    return d_q + d_q_offset[run] + head * Queries(run) * shape.head_dim;
  }

  void Reserve(Workspace& workspace, int threads) {
    const int64_t D = shape.head_dim, tokens = layout.tokens(), padded = layout.padded_tokens();
    workspace.Reset();
    const int64_t q_at = workspace.Reserve(shape.query_heads * tokens * D);
    const int64_t d_out_at = workspace.Reserve(shape.query_heads * tokens * D);
    const int64_t delta_at = workspace.Reserve(shape.query_heads * tokens);
    const int64_t k_at = workspace.Reserve(shape.kv_heads * tokens * D);
    const int64_t k_panels_at = workspace.Reserve(shape.kv_heads * padded * D);
    const int64_t v_panels_at = workspace.Reserve(shape.kv_heads * padded * D);
    int64_t d_q_size = 0;
    for (size_t run = 0; run < runs.size(); ++run) {
      d_q_offset.push_back(d_q_size);
      d_q_size += shape.query_heads * Queries(static_cast<int64_t>(run)) * D;
    }
    const int64_t d_q_at = workspace.Reserve(d_q_size);
    scratch_size = blocked::kBackwardScratch + 2 * blocked::kKeyBlock * D;
    const int64_t scratch_at = workspace.Reserve(threads * scratch_size);
    workspace.Allocate();
    q = workspace.at(q_at);
    d_out = workspace.at(d_out_at);
    delta = workspace.at(delta_at);
    k = workspace.at(k_at);
    k_panels = workspace.at(k_panels_at);
    v_panels = workspace.at(v_panels_at);
    d_q = workspace.at(d_q_at);
    scratch = workspace.at(scratch_at);
  }
};

void CpuBlockedAttention::Backward(const at::Tensor& d_out_THD, const QkvHeads& qkv, const at::Tensor& out_THD,
                                   const at::Tensor& lse_HT, const HeadGroups& groups, const AttentionMask& mask,
                                   double scale, QkvHeads& gradients) {
  Check(qkv);
  Backwards b{.d_out_THD = d_out_THD,
              .qkv = qkv,
              .out_THD = out_THD,
              .lse_HT = lse_HT.data_ptr<float>(),
              .gradients = gradients,
              .scale = scale,
              .window = WindowOf(mask),
              .kernels = kernels_,
              .layout = DocumentLayout(mask.documents),
              .shape = Shape(qkv, groups)};
  b.runs = b.layout.CutKeys(b.shape.kv_heads, UnitThreads(), b.first_run);
  b.Reserve(workspace_, UnitThreads());
  PackInputs(b);
  const int64_t runs = static_cast<int64_t>(b.runs.size());
  ParallelUnits(runs * b.shape.kv_heads, [&](int64_t unit, int thread) {
    KeyGradients(b, unit / b.shape.kv_heads, unit % b.shape.kv_heads, b.scratch + thread * b.scratch_size);
  });
  QueryGradients(b);
}

void CpuBlockedAttention::PackInputs(const Backwards& b) {
  const int64_t D = b.shape.head_dim, heads = b.shape.query_heads;
  const std::vector<TokenRange> pieces = b.layout.Cut(8 * blocked::kPanel);
  const int64_t piece_count = static_cast<int64_t>(pieces.size());
  ParallelUnits(piece_count * (heads + b.shape.kv_heads), [&](int64_t unit, int) {
    const TokenRange& piece = pieces[unit % piece_count];
    const int64_t head = unit / piece_count;
    if (head < heads) {
      float* const d_out = b.d_out + b.Rows(head, piece.begin);
      blocked::PackRows(b.qkv.q_THD, head, piece, static_cast<float>(b.scale * kLog2e), b.q + b.Rows(head, piece.begin),
                        D);
      blocked::PackRows(b.d_out_THD, head, piece, 1, d_out, D);
      blocked::RowProducts(d_out, D, b.out_THD, head, piece, b.delta + head * b.layout.tokens() + piece.begin);
    } else {
      const int64_t kv = head - heads, panels = b.Panels(kv, piece.document, piece.begin);
      blocked::PackRows(b.qkv.k_THD, kv, piece, 1, b.k + b.Rows(kv, piece.begin), D);
      blocked::PackPanels(b.qkv.k_THD, kv, piece, b.k_panels + panels, D);
      blocked::PackPanels(b.qkv.v_THD, kv, piece, b.v_panels + panels, D);
    }
  });
}

// d_k and d_v of one run of keys of one KV head, and what these keys add to the gradients of its queries.
void CpuBlockedAttention::KeyGradients(const Backwards& b, int64_t run, int64_t kv, float* scratch) {
  const int64_t D = b.shape.head_dim;
  const TokenRange& keys = b.runs[run];
  // Within the run, tokens count from its first key: no earlier query sees any of its keys.
  const int64_t queries = b.Queries(run);
  float* const d_k = scratch + blocked::kBackwardScratch;
  float* const d_v = d_k + blocked::kKeyBlock * D;
  for (int64_t head = 0; head < b.shape.query_heads; ++head) {
    if (b.shape.kv_of[head] == kv) std::fill_n(b.QueryGradient(run, head), queries * D, 0.0f);
  }
  for (int64_t at = keys.begin; at < keys.end; at += blocked::kKeyBlock) {
    const TokenRange block{keys.document, at, std::min(at + blocked::kKeyBlock, keys.end)};
    std::fill_n(d_k, 2 * blocked::kKeyBlock * D, 0.0f);
    for (int64_t head = 0; head < b.shape.query_heads; ++head) {
      if (b.shape.kv_of[head] != kv) continue;
      const int64_t rows = b.Rows(head, keys.begin), panels = b.Panels(kv, keys.document, at);
      const int64_t row_numbers = head * b.layout.tokens() + keys.begin;
      b.kernels.backward({.key_begin = at - keys.begin,
                          .keys = block.end - block.begin,
                          .tokens = queries,
                          .head_dim = D,
                          .window = b.window,
                          .q = b.q + rows,
                          .d_out = b.d_out + rows,
                          .lse = b.lse_HT + row_numbers,
                          .delta = b.delta + row_numbers,
                          .k = b.k + b.Rows(kv, at),
                          .k_transposed = b.k_panels + panels,
                          .v_transposed = b.v_panels + panels,
                          .d_q = b.QueryGradient(run, head),
                          .d_k = d_k,
                          .d_v = d_v,
                          .scratch = scratch});
    }
    blocked::UnpackRows(d_k, D, static_cast<float>(kLn2), b.gradients.k_THD, kv, block);
    blocked::UnpackRows(d_v, D, 1, b.gradients.v_THD, kv, block);
  }
}

// Adds the parts of all runs up, in their order.
void CpuBlockedAttention::QueryGradients(const Backwards& b) {
  const int64_t D = b.shape.head_dim;
  const std::vector<TokenRange> pieces = b.layout.Cut(2 * blocked::kPanel);
  const int64_t piece_count = static_cast<int64_t>(pieces.size());
  ParallelUnits(piece_count * b.shape.query_heads, [&](int64_t unit, int) {
    const TokenRange& piece = pieces[unit % piece_count];
    const int64_t head = unit / piece_count, first = b.first_run[piece.document];
    float* const sum = b.QueryGradient(first, head) + (piece.begin - b.runs[first].begin) * D;
    for (int64_t run = first + 1; run < b.first_run[piece.document + 1]; ++run) {
      const int64_t seen = std::max(piece.begin, b.runs[run].begin);
      if (seen >= piece.end) break;
      const float* const part = b.QueryGradient(run, head) + (seen - b.runs[run].begin) * D;
      float* const into = sum + (seen - piece.begin) * D;
      for (int64_t i = 0; i < (piece.end - seen) * D; ++i) into[i] += part[i];
    }
    blocked::UnpackRows(sum, D, static_cast<float>(b.scale), b.gradients.q_THD, head, piece);
  });
}

}  // namespace

std::unique_ptr<AttentionBackend> MakeCpuBlockedAttention() { return MakeCpuBlockedAttention(blocked::BestKernels()); }

std::unique_ptr<AttentionBackend> MakeCpuBlockedAttention(const blocked::Kernels& kernels) {
  return std::make_unique<CpuBlockedAttention>(kernels);
}

}  // namespace ithaca::engine

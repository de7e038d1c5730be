#pragma once

#include <cstdint>

// The arithmetic of blocked attention on one CPU core, on packed fp32 blocks, without LibTorch. blocked_kernel.cc is
// compiled once per instruction set; the best one this machine has is chosen at run time.
//
// Keys come in panels of kPanel: K^T and V^T as [panel][D][kPanel], padded with zeros; K and V also as [key][D]. D is
// padded to a multiple of kHeadMultiple with zeros. Scores are in base 2: queries are scaled by scale * log2(e).

namespace ithaca::engine::blocked {

constexpr int64_t kPanel = 64;
constexpr int64_t kHeadMultiple = 16;
constexpr int64_t kKeyBlock = 192;   // keys at a time; a multiple of kPanel
constexpr int64_t kQueryBlock = 96;  // queries at a time

// No window: more keys than any document has.
constexpr int64_t kNoWindow = int64_t{1} << 40;

// Causal attention of queries [query_begin, query_begin + rows) of one head over the keys (query - window, query] of
// its document.
struct ForwardBlock {
  int64_t query_begin, rows, head_dim, window;
  const float* q;             // [rows][D], scaled
  const float* k_transposed;  // panels of the document
  const float* v;             // [key][D]
  float* out;                 // [rows][D]
  float* lse;                 // [rows], natural logarithm
  float* scratch;             // kForwardScratch floats
};
constexpr int64_t kForwardScratch = 8 * kKeyBlock;

// Gradients through keys [key_begin, key_begin + keys), keys <= kKeyBlock, of one document and one query head.
struct BackwardBlock {
  int64_t key_begin, keys, tokens, head_dim, window;  // tokens: of the document
  const float* q;                                     // [tokens][D], scaled
  const float* d_out;                                 // [tokens][D]
  const float* lse;                                   // [tokens], natural logarithm
  const float* delta;                                 // [tokens]: rowsum(d_out * out)
  const float* k;                                     // this block's keys, [key][D]
  const float* k_transposed;                          // its panels
  const float* v_transposed;
  float* d_q;      // [tokens][D] +=, lacks the factor `scale`
  float* d_k;      // [keys][D] +=, lacks the factor ln(2)
  float* d_v;      // [keys][D] +=
  float* scratch;  // kBackwardScratch floats
};
constexpr int64_t kBackwardScratch = 2 * kQueryBlock * kKeyBlock;

struct Kernels {
  const char* name;
  void (*forward)(const ForwardBlock&);
  void (*backward)(const BackwardBlock&);
};

// The widest instruction set that this CPU and this build have: "avx512", "avx2" or "baseline".
const Kernels& BestKernels();
// For tests: all that can run here, widest first; ends with a null name.
const Kernels* AvailableKernels();

}  // namespace ithaca::engine::blocked

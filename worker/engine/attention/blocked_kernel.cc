// Compiled once per instruction set with ITHACA_ISA (a namespace) and ITHACA_VECTOR_FLOATS defined. Everything here has
// internal linkage or lives in that namespace, and no inline function of the standard library is used: the linker must
// never pick code of a wider instruction set for another file.

#include "worker/engine/attention/blocked_kernel.h"

namespace ithaca::engine::blocked::ITHACA_ISA {
namespace {

constexpr int kLanes = ITHACA_VECTOR_FLOATS;
constexpr int kRows = 6;                        // rows of a register tile
constexpr int kColumns = kLanes == 16 ? 4 : 2;  // vectors of a register tile
constexpr float kLn2 = 0.693147180559945309f;
constexpr float kLog2e = 1.44269504088896341f;
constexpr float kMasked = -1e30f;  // a score that no sum notices; finite, so that differences stay numbers

typedef float Vector __attribute__((vector_size(4 * kLanes)));
typedef int32_t Integers __attribute__((vector_size(4 * kLanes)));
typedef float Unaligned __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

inline __attribute__((always_inline)) Vector Load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
inline __attribute__((always_inline)) void Store(float* p, Vector v) { *reinterpret_cast<Unaligned*>(p) = v; }
inline __attribute__((always_inline)) Vector Splat(float x) { return Vector{} + x; }

inline int64_t Min(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t Max(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t RoundUp(int64_t a, int64_t multiple) { return (a + multiple - 1) / multiple * multiple; }

// 2^x for x <= 0.5 or so, exactly 0 below -126. 2^n by the exponent bits; 2^f on [-0.5, 0.5] by its Taylor polynomial
// of degree 7, whose remainder (ln2/2)^8/8! is below 6e-9.
inline __attribute__((always_inline)) Vector Exp2(Vector x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Integers alive = x > -126.0f;
  const Vector shifted = x + kRound;
  const Vector f = x - (shifted - kRound);
  Vector p = Splat(1.5252733804e-5f);
  p = p * f + 1.5403530394e-4f;
  p = p * f + 1.3333558146e-3f;
  p = p * f + 9.6181291076e-3f;
  p = p * f + 5.5504108665e-2f;
  p = p * f + 2.4022650696e-1f;
  p = p * f + 6.9314718056e-1f;
  p = p * f + 1.0f;
  const Integers bits = reinterpret_cast<Integers>(p) + (reinterpret_cast<Integers>(shifted) << 23);
  return reinterpret_cast<Vector>(bits & alive);
}

inline __attribute__((always_inline)) Vector Larger(Vector a, Vector b) { return a > b ? a : b; }

inline float SumOf(Vector v) {
  float lanes[kLanes];
  Store(lanes, v);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

inline float LargestOf(Vector v) {
  float lanes[kLanes];
  Store(lanes, v);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] = lanes[i] > lanes[i + width] ? lanes[i] : lanes[i + width];
  }
  return lanes[0];
}

// log2 without the standard library: exponent, then an atanh series on [sqrt(1/2), sqrt(2)).
inline float Log2(float x) {
  union {
    float f;
    int32_t i;
  } u{x};
  int exponent = ((u.i >> 23) & 255) - 127;
  u.i = (u.i & 0x7fffff) | 0x3f800000;
  double m = u.f;
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  const double z = (m - 1) / (m + 1), z2 = z * z;
  const double series = 1 + z2 * (1.0 / 3 + z2 * (1.0 / 5 + z2 * (1.0 / 7 + z2 * (1.0 / 9 + z2 * (1.0 / 11)))));
  return static_cast<float>(exponent + 2 * z * series * 1.4426950408889634);
}

// Keys [0, n) of which `query` may attend; the rest of the lanes get kMasked. `column` is the first lane's key.
inline __attribute__((always_inline)) Vector MaskAfter(Vector v, int64_t column, int64_t query) {
  Integers lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  const Integers visible = lane <= static_cast<int32_t>(query - column);
  return visible ? v : Splat(kMasked);
}

// The lanes before `first`, the first key a query sees, get kMasked.
inline __attribute__((always_inline)) Vector MaskBefore(Vector v, int64_t column, int64_t first) {
  Integers lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  const Integers visible = lane >= static_cast<int32_t>(first - column);
  return visible ? v : Splat(kMasked);
}

template <int R, int C>
struct Tile {
  Vector at[R][C];
};

// tile = sum over k of a(r, k) * b[k][...]; a(r, k) = a[r * row_step + k * k_step].
template <int R, int C>
inline __attribute__((always_inline)) void Multiply(Tile<R, C>& tile, int64_t depth, const float* a, int64_t row_step,
                                                    int64_t k_step, const float* b, int64_t b_step) {
  for (int64_t k = 0; k < depth; ++k, a += k_step, b += b_step) {
    Vector columns[C];
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) columns[c] = Load(b + c * kLanes);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const Vector x = Splat(a[r * row_step]);
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) tile.at[r][c] += x * columns[c];
    }
  }
}

// c[R][columns] = factor[r] * c + a b; factor null: 1.
template <int R, int C>
inline __attribute__((always_inline)) void AccumulateTile(int64_t depth, const float* a, int64_t row_step,
                                                          int64_t k_step, const float* b, int64_t b_step, float* c,
                                                          int64_t c_step, const float* factor) {
  Tile<R, C> tile;
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < C; ++i) {
      tile.at[r][i] = Load(c + r * c_step + i * kLanes);
      if (factor != nullptr) tile.at[r][i] *= factor[r];
    }
  }
  Multiply(tile, depth, a, row_step, k_step, b, b_step);
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < C; ++i) Store(c + r * c_step + i * kLanes, tile.at[r][i]);
  }
}

template <int R>
void AccumulateRows(int64_t columns, int64_t depth, const float* a, int64_t row_step, int64_t k_step, const float* b,
                    float* c, const float* factor) {
  int64_t n = 0;
  for (; n + kColumns * kLanes <= columns; n += kColumns * kLanes) {
    AccumulateTile<R, kColumns>(depth, a, row_step, k_step, b + n, columns, c + n, columns, factor);
  }
  for (; n < columns; n += kLanes) {
    AccumulateTile<R, 1>(depth, a, row_step, k_step, b + n, columns, c + n, columns, factor);
  }
}

// Calls f.template operator()<R>() with R = rows, which is 1..6.
template <typename F>
inline __attribute__((always_inline)) void WithRows(int64_t rows, F f) {
  switch (rows) {
    case 6:
      return f.template operator()<6>();
    case 5:
      return f.template operator()<5>();
    case 4:
      return f.template operator()<4>();
    case 3:
      return f.template operator()<3>();
    case 2:
      return f.template operator()<2>();
    default:
      return f.template operator()<1>();
  }
}

// Scores of R queries against keys [0, limit) of a block; s has row stride kKeyBlock.
template <int R>
void Scores(const float* q, const float* k_transposed, int64_t limit, int64_t head_dim, float* s) {
  for (int64_t n = 0; n < limit; n += kColumns * kLanes) {
    Tile<R, kColumns> tile{};
    const float* panel = k_transposed + n / kPanel * kPanel * head_dim + n % kPanel;
    Multiply(tile, head_dim, q, head_dim, 1, panel, kPanel);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) Store(s + r * kKeyBlock + n + c * kLanes, tile.at[r][c]);
    }
  }
}

// One row's step of the online softmax: scores become weights relative to the new maximum; returns the factor for what
// was summed before. `sum` holds one partial sum per lane. Keys from `first` to `query` are visible. Where none of the
// block is, the weights are ones, which a later block's factor of zero removes: a query sees its own key last.
inline float SoftmaxRow(float* s, int64_t limit, int64_t masked_from, int64_t first, int64_t query, float& maximum,
                        Vector& sum) {
  Vector largest = Splat(kMasked);
  for (int64_t n = 0; n < limit && n < first; n += kLanes) Store(s + n, MaskBefore(Load(s + n), n, first));
  for (int64_t n = masked_from; n < limit; n += kLanes) Store(s + n, MaskAfter(Load(s + n), n, query));
  for (int64_t n = 0; n < limit; n += kLanes) largest = Larger(largest, Load(s + n));
  const float next = LargestOf(largest) > maximum ? LargestOf(largest) : maximum;
  const float factor = Exp2(Splat(maximum - next))[0];
  Vector added{};
  for (int64_t n = 0; n < limit; n += kLanes) {
    const Vector p = Exp2(Load(s + n) - next);
    Store(s + n, p);
    added += p;
  }
  maximum = next;
  sum = sum * factor + added;
  return factor;
}

// Up to kRows queries against all their keys.
template <int R>
void ForwardRows(const ForwardBlock& block, int64_t row) {
  const int64_t head_dim = block.head_dim, first = block.query_begin + row;
  float* const out = block.out + row * head_dim;
  float maximum[R], factor[R];
  Vector sum[R];
  for (int r = 0; r < R; ++r) {
    maximum[r] = kMasked;
    sum[r] = Vector{};
  }
  for (int64_t i = 0; i < R * head_dim; ++i) out[i] = 0;
  const int64_t earliest = Max(0, first - block.window + 1) / kPanel * kPanel;
  for (int64_t key = earliest; key < first + R; key += kKeyBlock) {
    const int64_t visible = first + R - key;  // by the last of the rows
    const int64_t limit = Min(RoundUp(visible, kPanel), kKeyBlock);
    Scores<R>(block.q + row * head_dim, block.k_transposed + key * head_dim, limit, head_dim, block.scratch);
    const int64_t masked_from = Min(limit, Max(first - key, 0) / kLanes * kLanes);
    for (int r = 0; r < R; ++r) {
      const int64_t query = first + r - key;
      factor[r] = SoftmaxRow(block.scratch + r * kKeyBlock, limit, masked_from, query - block.window + 1, query,
                             maximum[r], sum[r]);
    }
    AccumulateRows<R>(head_dim, Min(visible, limit), block.scratch, kKeyBlock, 1, block.v + key * head_dim, out,
                      factor);
  }
  for (int r = 0; r < R; ++r) {
    const float total = SumOf(sum[r]);
    const float inverse = 1.0f / total;
    for (int64_t d = 0; d < head_dim; ++d) out[r * head_dim + d] *= inverse;
    block.lse[row + r] = (maximum[r] + Log2(total)) * kLn2;
  }
}

// Weights P and score gradients dS (without `scale`) of R queries against keys [0, limit) of the block.
template <int R>
void WeightsAndGradients(const BackwardBlock& block, int64_t query, int64_t limit, float* p, float* ds) {
  const int64_t head_dim = block.head_dim, relative = query - block.key_begin;
  for (int64_t n = 0; n < limit; n += kColumns * kLanes) {
    const int64_t panel = n / kPanel * kPanel * head_dim + n % kPanel;
    Tile<R, kColumns> weights{};
    Multiply(weights, head_dim, block.q + query * head_dim, head_dim, 1, block.k_transposed + panel, kPanel);
    const bool masked = n + kColumns * kLanes > relative;
    const bool early = n <= relative + R - 1 - block.window;
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const float lse = block.lse[query + r] * kLog2e;
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) {
        Vector s = weights.at[r][c] - lse;
        if (masked) s = MaskAfter(s, n + c * kLanes, relative + r);
        if (early) s = MaskBefore(s, n + c * kLanes, relative + r - block.window + 1);
        Store(p + r * kKeyBlock + n + c * kLanes, Exp2(s));
      }
    }
    Tile<R, kColumns> gradient{};
    Multiply(gradient, head_dim, block.d_out + query * head_dim, head_dim, 1, block.v_transposed + panel, kPanel);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const float delta = block.delta[query + r];
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) {
        const int64_t at = r * kKeyBlock + n + c * kLanes;
        Store(ds + at, Load(p + at) * (gradient.at[r][c] - delta));
      }
    }
  }
}

// d_k and d_v of all keys from the P and dS of queries [query, query + rows).
void AccumulateKeys(const BackwardBlock& block, int64_t query, int64_t rows, const float* p, const float* ds) {
  const int64_t head_dim = block.head_dim;
  for (int64_t key = 0; key < block.keys; key += kRows) {
    const int64_t skip = Max(0, block.key_begin + key - query);  // queries before the first of these keys
    if (skip >= rows) break;
    WithRows(Min(kRows, block.keys - key), [&]<int R>() {
      const int64_t at = skip * kKeyBlock + key, from = (query + skip) * head_dim;
      AccumulateRows<R>(head_dim, rows - skip, p + at, 1, kKeyBlock, block.d_out + from, block.d_v + key * head_dim,
                        nullptr);
      AccumulateRows<R>(head_dim, rows - skip, ds + at, 1, kKeyBlock, block.q + from, block.d_k + key * head_dim,
                        nullptr);
    });
  }
}

}  // namespace

void Forward(const ForwardBlock& block) {
  for (int64_t row = 0; row < block.rows; row += kRows) {
    WithRows(Min(kRows, block.rows - row), [&]<int R>() { ForwardRows<R>(block, row); });
  }
}

void Backward(const BackwardBlock& block) {
  float* const p = block.scratch;
  float* const ds = block.scratch + kQueryBlock * kKeyBlock;
  const int64_t keys = RoundUp(block.keys, kPanel);
  const int64_t end = Min(block.tokens, block.key_begin + block.keys - 1 + block.window);  // of queries that see a key
  for (int64_t query = block.key_begin; query < end; query += kQueryBlock) {
    const int64_t rows = Min(kQueryBlock, end - query);
    for (int64_t row = 0; row < rows; row += kRows) {
      const int64_t strip = Min(kRows, rows - row);
      // A strip of keys reads up to kRows - 1 keys past the last one a query sees: they must be there, as zeros.
      const int64_t visible = query + row + strip - block.key_begin;
      const int64_t limit = Min(RoundUp(visible + kRows - 1, kPanel), keys);
      WithRows(strip, [&]<int R>() {
        WeightsAndGradients<R>(block, query + row, limit, p + row * kKeyBlock, ds + row * kKeyBlock);
        AccumulateRows<R>(block.head_dim, Min(Min(visible, limit), block.keys), ds + row * kKeyBlock, kKeyBlock, 1,
                          block.k, block.d_q + (query + row) * block.head_dim, nullptr);
      });
    }
    AccumulateKeys(block, query, rows, p, ds);
  }
}

}  // namespace ithaca::engine::blocked::ITHACA_ISA

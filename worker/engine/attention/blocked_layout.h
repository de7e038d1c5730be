#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "worker/engine/attention/ulysses_attention.h"

// How blocked attention lays out what its kernels read: fp32, D padded to Dp, one head after the other.

namespace ithaca::engine::blocked {

// A run of tokens of one document; `document` indexes the documents that are not empty.
struct TokenRange {
  int64_t document, begin, end;  // tokens of the whole sequence
};

// The documents of a sequence, cut for the kernels. Panels of a document start at a multiple of kPanel in "padded"
// token numbers, so that no panel holds two documents.
class DocumentLayout {
 public:
  explicit DocumentLayout(const DocumentStarts& documents);

  int64_t documents() const { return static_cast<int64_t>(starts_.size()) - 1; }
  int64_t begin(int64_t document) const { return starts_[document]; }
  int64_t length(int64_t document) const { return starts_[document + 1] - starts_[document]; }
  int64_t padded_begin(int64_t document) const { return padded_starts_[document]; }
  int64_t tokens() const { return starts_.back(); }
  int64_t padded_tokens() const { return padded_starts_.back(); }

  // Every document in runs of at most `longest` tokens, the last run of each document first.
  std::vector<TokenRange> Cut(int64_t longest) const;
  // Every document's keys in runs that cost about the same: the triangle of (query, key) pairs of all documents and
  // `kv_heads` heads is cut into about three pieces a thread. Runs of a document start at multiples of kPanel in it;
  // `first_of_document[d]` is where its runs begin in the answer.
  std::vector<TokenRange> CutKeys(int64_t kv_heads, int threads, std::vector<int64_t>& first_of_document) const;

 private:
  std::vector<int64_t> starts_, padded_starts_;
};

// Copies x_THD[range, head, :] * factor to rows of Dp floats, padded with zeros.
void PackRows(const at::Tensor& x_THD, int64_t head, const TokenRange& range, float factor, float* rows,
              int64_t padded_head_dim);
// The same transposed, in panels; range.begin is the first key of a panel. Keys that fill the last one up are zeros.
void PackPanels(const at::Tensor& x_THD, int64_t head, const TokenRange& range, float* panels, int64_t padded_head_dim);
// Copies rows of Dp floats * factor to x_THD[range, head, :].
void UnpackRows(const float* rows, int64_t padded_head_dim, float factor, const at::Tensor& x_THD, int64_t head,
                const TokenRange& range);
// delta[i] = sum over D of a[i] * b[i], of packed a and x_THD[range, head, :]. dO . O of the flash backward.
void RowProducts(const float* rows, int64_t padded_head_dim, const at::Tensor& x_THD, int64_t head,
                 const TokenRange& range, float* products);

}  // namespace ithaca::engine::blocked

#include "worker/engine/attention/blocked_layout.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "worker/engine/attention/blocked_kernel.h"

namespace ithaca::engine::blocked {
namespace {

int64_t RoundUp(int64_t a, int64_t multiple) { return (a + multiple - 1) / multiple * multiple; }

// Calls f(pointer to x[token, head, 0], floats between tokens) with the tensor's element type: float or bfloat16.
template <typename F>
void WithData(const at::Tensor& x_THD, int64_t token, int64_t head, F f) {
  const int64_t offset = token * x_THD.stride(0) + head * x_THD.stride(1);
  if (x_THD.scalar_type() == at::kFloat) {
    f(x_THD.data_ptr<float>() + offset, x_THD.stride(0));
  } else {
    f(x_THD.data_ptr<at::BFloat16>() + offset, x_THD.stride(0));
  }
}

}  // namespace

DocumentLayout::DocumentLayout(const DocumentStarts& documents) : starts_{0}, padded_starts_{0} {
  for (size_t d = 0; d + 1 < documents.size(); ++d) {
    const int64_t length = documents[d + 1] - documents[d];
    if (length == 0) continue;
    starts_.push_back(documents[d + 1]);
    padded_starts_.push_back(padded_starts_.back() + RoundUp(length, kPanel));
  }
}

std::vector<TokenRange> DocumentLayout::Cut(int64_t longest) const {
  std::vector<TokenRange> ranges;
  for (int64_t d = 0; d < documents(); ++d) {
    for (int64_t at = (length(d) - 1) / longest * longest; at >= 0; at -= longest) {
      ranges.push_back({d, begin(d) + at, begin(d) + std::min(at + longest, length(d))});
    }
  }
  return ranges;
}

std::vector<TokenRange> DocumentLayout::CutKeys(int64_t kv_heads, int threads,
                                                std::vector<int64_t>& first_of_document) const {
  double all = 0;
  for (int64_t d = 0; d < documents(); ++d) all += static_cast<double>(length(d)) * static_cast<double>(length(d));
  const double share = threads == 1 ? all : all * static_cast<double>(kv_heads) / (3 * threads);
  std::vector<TokenRange> ranges;
  for (int64_t d = 0; d < documents(); ++d) {
    first_of_document.push_back(static_cast<int64_t>(ranges.size()));
    const double tokens = static_cast<double>(length(d));
    const int64_t most = std::min<int64_t>((length(d) + kKeyBlock - 1) / kKeyBlock, 8);
    const int64_t runs = std::clamp<int64_t>(std::llround(std::ceil(tokens * tokens / share - 1e-9)), 1, most);
    int64_t from = 0;
    for (int64_t run = 1; run <= runs; ++run) {
      // Queries after key x make (tokens - x)^2 / 2 pairs: equal pieces end at tokens (1 - sqrt(1 - run / runs)).
      const double left = std::sqrt(1 - static_cast<double>(run) / static_cast<double>(runs));
      const int64_t end = run == runs ? length(d) : std::llround(tokens * (1 - left) / kPanel) * kPanel;
      if (end <= from) continue;
      ranges.push_back({d, begin(d) + from, begin(d) + end});
      from = end;
    }
  }
  first_of_document.push_back(static_cast<int64_t>(ranges.size()));
  return ranges;
}

void PackRows(const at::Tensor& x_THD, int64_t head, const TokenRange& range, float factor, float* rows,
              int64_t padded_head_dim) {
  const int64_t head_dim = x_THD.size(2);
  WithData(x_THD, range.begin, head, [&](const auto* x, int64_t stride) {
    for (int64_t t = 0; t < range.end - range.begin; ++t, x += stride, rows += padded_head_dim) {
      for (int64_t d = 0; d < head_dim; ++d) rows[d] = static_cast<float>(x[d]) * factor;
      for (int64_t d = head_dim; d < padded_head_dim; ++d) rows[d] = 0;
    }
  });
}

void PackPanels(const at::Tensor& x_THD, int64_t head, const TokenRange& range, float* panels,
                int64_t padded_head_dim) {
  const int64_t head_dim = x_THD.size(2), keys = range.end - range.begin;
  WithData(x_THD, range.begin, head, [&](const auto* x, int64_t stride) {
    for (int64_t first = 0; first < keys; first += kPanel, panels += kPanel * padded_head_dim) {
      const int64_t here = std::min(kPanel, keys - first);
      std::fill_n(panels + head_dim * kPanel, (padded_head_dim - head_dim) * kPanel, 0.0f);
      for (int64_t d = 0; d < head_dim; ++d) {
        float* const row = panels + d * kPanel;
        for (int64_t key = 0; key < here; ++key) row[key] = static_cast<float>(x[(first + key) * stride + d]);
        std::fill_n(row + here, kPanel - here, 0.0f);
      }
    }
  });
}

void UnpackRows(const float* rows, int64_t padded_head_dim, float factor, const at::Tensor& x_THD, int64_t head,
                const TokenRange& range) {
  const int64_t head_dim = x_THD.size(2);
  WithData(x_THD, range.begin, head, [&](auto* x, int64_t stride) {
    for (int64_t t = 0; t < range.end - range.begin; ++t, x += stride, rows += padded_head_dim) {
      for (int64_t d = 0; d < head_dim; ++d) x[d] = rows[d] * factor;
    }
  });
}

void RowProducts(const float* rows, int64_t padded_head_dim, const at::Tensor& x_THD, int64_t head,
                 const TokenRange& range, float* products) {
  const int64_t head_dim = x_THD.size(2);
  WithData(x_THD, range.begin, head, [&](const auto* x, int64_t stride) {
    for (int64_t t = 0; t < range.end - range.begin; ++t, x += stride, rows += padded_head_dim) {
      float lanes[8] = {};
      for (int64_t d = 0; d + 8 <= head_dim; d += 8) {
        for (int i = 0; i < 8; ++i) lanes[i] += rows[d + i] * static_cast<float>(x[d + i]);
      }
      for (int64_t d = head_dim / 8 * 8; d < head_dim; ++d) lanes[0] += rows[d] * static_cast<float>(x[d]);
      products[t] = ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
    }
  });
}

}  // namespace ithaca::engine::blocked

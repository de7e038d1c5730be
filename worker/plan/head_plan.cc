#include "worker/plan/head_plan.h"

#include <algorithm>

namespace ithaca::plan {

HeadPlan::HeadPlan(int query_heads, int kv_heads, int ranks)
    : query_heads_(query_heads), kv_heads_(kv_heads), ranks_(ranks), query_begin_(ranks + 1) {
  // The first query_heads % ranks ranks carry one head more.
  const int base = query_heads / ranks;
  const int longer = query_heads % ranks;
  for (int rank = 0; rank <= ranks; ++rank) query_begin_[rank] = rank * base + std::min(rank, longer);
}

std::string HeadPlan::Validate(int query_heads, int kv_heads, int ranks) {
  if (query_heads < 1 || kv_heads < 1 || query_heads % kv_heads != 0) {
    return "the model's " + std::to_string(query_heads) + " query heads are not a multiple of its " +
           std::to_string(kv_heads) + " KV heads";
  }
  if (ranks < 1) return "a sequence needs at least one rank";
  if (ranks > query_heads) {
    return std::to_string(ranks) + " ranks cannot share the model's " + std::to_string(query_heads) +
           " query heads: at most one rank per query head";
  }
  return "";
}

int HeadPlan::kv_begin(int rank) const { return query_begin_[rank] / (query_heads_ / kv_heads_); }

int HeadPlan::kv_count(int rank) const {
  const int last = (query_begin_[rank + 1] - 1) / (query_heads_ / kv_heads_);
  return last - kv_begin(rank) + 1;
}

std::vector<HeadSegment> HeadPlan::Segments(int rank) const {
  const int group = query_heads_ / kv_heads_;
  std::vector<HeadSegment> segments;
  for (int kv = kv_begin(rank); kv < kv_begin(rank) + kv_count(rank); ++kv) {
    segments.push_back(
        {kv, std::max(query_begin_[rank], kv * group), std::min(query_begin_[rank + 1], (kv + 1) * group)});
  }
  return segments;
}

int HeadPlan::max_query_count() const { return query_count(0); }

int HeadPlan::max_kv_count() const {
  int most = 0;
  for (int rank = 0; rank < ranks_; ++rank) most = std::max(most, kv_count(rank));
  return most;
}

}  // namespace ithaca::plan

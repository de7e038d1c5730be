#pragma once

#include <string>
#include <vector>

namespace ithaca::plan {

// Query heads [query_begin, query_end) of one rank, all of which attend with KV head `kv_head`. Global head numbers.
struct HeadSegment {
  int kv_head;
  int query_begin;
  int query_end;
};

// Which attention heads each rank of a sequence-parallel group computes after the exchange. Heads need not divide the
// group: query heads are cut into P contiguous ranges that differ by at most one head, and a KV head goes to every rank
// with a query head that uses it. A pure value; every rank makes the same one.
class HeadPlan {
 public:
  // Requires 1 <= ranks <= query_heads and query_heads % kv_heads == 0 (checked by the caller with Validate).
  HeadPlan(int query_heads, int kv_heads, int ranks);

  // Empty if such a plan exists, else one sentence that says why not.
  static std::string Validate(int query_heads, int kv_heads, int ranks);

  int ranks() const { return ranks_; }
  int query_heads() const { return query_heads_; }
  int kv_heads() const { return kv_heads_; }

  int query_begin(int rank) const { return query_begin_[rank]; }
  int query_count(int rank) const { return query_begin_[rank + 1] - query_begin_[rank]; }
  int kv_begin(int rank) const;  // KV heads of a rank are contiguous, too
  int kv_count(int rank) const;

  // In query-head order; local query head = query - query_begin(rank), local KV head = kv_head - kv_begin(rank).
  std::vector<HeadSegment> Segments(int rank) const;

  // Of the rank that carries most; what memory is charged for.
  int max_query_count() const;
  int max_kv_count() const;

 private:
  int query_heads_, kv_heads_, ranks_;
  std::vector<int> query_begin_;  // ranks + 1 entries
};

}  // namespace ithaca::plan

#include "worker/engine/attention/head_exchange.h"

#include <ATen/ATen.h>

#include <utility>

namespace ithaca::engine {
namespace {

// Heads [from, from + count) of one buffer are heads [to, to + count) of another.
struct HeadCopy {
  int64_t from, to, count;
};

// Where the heads of `rank` are in the model's fused tensor (from) and in the rank's own (to): queries, keys, values.
std::vector<HeadCopy> CopiesOf(const plan::HeadPlan& heads, int rank, bool queries_only) {
  const int64_t queries = heads.query_count(rank), kv = heads.kv_count(rank);
  std::vector<HeadCopy> copies{{heads.query_begin(rank), 0, queries}};
  if (queries_only) return copies;
  const int64_t first_key = heads.query_heads(), first_value = first_key + heads.kv_heads();
  copies.push_back({first_key + heads.kv_begin(rank), queries, kv});
  copies.push_back({first_value + heads.kv_begin(rank), queries + kv, kv});
  return copies;
}

}  // namespace

HeadExchange::HeadExchange(plan::HeadPlan heads, Communicator& sequence_group)
    : heads_(std::move(heads)), group_(sequence_group) {
  TORCH_CHECK(heads_.ranks() == group_.size(), "the head plan is for ", heads_.ranks(), " ranks, the group has ",
              group_.size());
}

int64_t HeadExchange::Width(int rank, Parts parts) const {
  return heads_.query_count(rank) + (parts == Parts::kQkv ? 2 * heads_.kv_count(rank) : 0);
}

at::Tensor HeadExchange::ToHeads(const at::Tensor& qkv_SHD) { return SendHeads(qkv_SHD, Parts::kQkv); }

at::Tensor HeadExchange::ToTokensAdjoint(const at::Tensor& d_out_SHD) { return SendHeads(d_out_SHD, Parts::kQueries); }

at::Tensor HeadExchange::SendHeads(const at::Tensor& all_SHD, Parts parts) {
  if (group_.size() == 1) return all_SHD;
  const int64_t shard = all_SHD.size(0), head_dim = all_SHD.size(2), mine = Width(group_.rank(), parts);
  std::vector<int64_t> input_splits, output_splits(group_.size(), shard * mine);
  int64_t rows = 0;
  for (int rank = 0; rank < group_.size(); ++rank) {
    input_splits.push_back(shard * Width(rank, parts));
    rows += input_splits.back();
  }
  at::Tensor packed = at::empty({rows, head_dim}, all_SHD.options());
  int64_t row = 0;
  for (int rank = 0; rank < group_.size(); ++rank) {
    const at::Tensor block_SHD = packed.narrow(0, row, input_splits[rank]).view({shard, Width(rank, parts), head_dim});
    for (const HeadCopy& copy : CopiesOf(heads_, rank, parts == Parts::kQueries)) {
      block_SHD.narrow(1, copy.to, copy.count).copy_(all_SHD.narrow(1, copy.from, copy.count));
    }
    row += input_splits[rank];
  }
  at::Tensor mine_THD = at::empty({shard * group_.size(), mine, head_dim}, all_SHD.options());
  at::Tensor received = mine_THD.view({-1, head_dim});
  AllToAll(received, packed, output_splits, input_splits);
  return mine_THD;
}

std::vector<at::Tensor> HeadExchange::SendTokens(const at::Tensor& mine_THD, Parts parts) {
  const int64_t shard = mine_THD.size(0) / group_.size(), head_dim = mine_THD.size(2);
  const std::vector<int64_t> input_splits(group_.size(), shard * mine_THD.size(1));
  std::vector<int64_t> output_splits;
  int64_t rows = 0;
  for (int rank = 0; rank < group_.size(); ++rank) {
    output_splits.push_back(shard * Width(rank, parts));
    rows += output_splits.back();
  }
  at::Tensor received = at::empty({rows, head_dim}, mine_THD.options());
  AllToAll(received, mine_THD.contiguous().view({-1, head_dim}), output_splits, input_splits);
  std::vector<at::Tensor> by_rank;
  int64_t row = 0;
  for (int rank = 0; rank < group_.size(); ++rank) {
    by_rank.push_back(received.narrow(0, row, output_splits[rank]).view({shard, Width(rank, parts), head_dim}));
    row += output_splits[rank];
  }
  return by_rank;
}

at::Tensor HeadExchange::ToTokens(const at::Tensor& out_THD) {
  if (group_.size() == 1) return out_THD;
  const std::vector<at::Tensor> by_rank = SendTokens(out_THD, Parts::kQueries);
  at::Tensor out_SHD = at::empty({by_rank[0].size(0), heads_.query_heads(), out_THD.size(2)}, out_THD.options());
  for (int rank = 0; rank < group_.size(); ++rank) {
    out_SHD.narrow(1, heads_.query_begin(rank), heads_.query_count(rank)).copy_(by_rank[rank]);
  }
  return out_SHD;
}

at::Tensor HeadExchange::ToHeadsAdjoint(const at::Tensor& d_qkv_THD) {
  if (group_.size() == 1) return d_qkv_THD;
  const std::vector<at::Tensor> by_rank = SendTokens(d_qkv_THD, Parts::kQkv);
  const int queries = heads_.query_heads(), kv_heads = heads_.kv_heads();
  at::Tensor d_qkv_SHD =
      at::empty({by_rank[0].size(0), queries + 2 * kv_heads, d_qkv_THD.size(2)}, d_qkv_THD.options());
  for (int rank = 0; rank < group_.size(); ++rank) {
    d_qkv_SHD.narrow(1, heads_.query_begin(rank), heads_.query_count(rank))
        .copy_(by_rank[rank].narrow(1, 0, heads_.query_count(rank)));
  }
  for (int part = 0; part < 2; ++part) {  // keys, values
    for (int kv = 0; kv < kv_heads; ++kv) {
      at::Tensor sum_SD;
      int users = 0;
      for (int rank = 0; rank < group_.size(); ++rank) {
        const int local = kv - heads_.kv_begin(rank);
        if (local < 0 || local >= heads_.kv_count(rank)) continue;
        const at::Tensor from_SD =
            by_rank[rank].select(1, heads_.query_count(rank) + part * heads_.kv_count(rank) + local);
        if (users == 0) sum_SD = from_SD;
        if (users == 1) sum_SD = sum_SD.to(at::promote_types(sum_SD.scalar_type(), at::kFloat), false, true);
        if (users > 0) sum_SD.add_(from_SD);
        ++users;
      }
      d_qkv_SHD.select(1, queries + part * kv_heads + kv).copy_(sum_SD);
    }
  }
  return d_qkv_SHD;
}

void HeadExchange::AllToAll(at::Tensor& output, const at::Tensor& input, const std::vector<int64_t>& output_splits,
                            const std::vector<int64_t>& input_splits) {
  const DeviceMoment begin(input.device());
  group_.AllToAll(output, input, output_splits, input_splits);
  spans_.push_back({begin, DeviceMoment(input.device())});  // the current stream waits for the collective's
}

std::vector<DeviceSpan> HeadExchange::TakeSpans() { return std::exchange(spans_, {}); }

}  // namespace ithaca::engine

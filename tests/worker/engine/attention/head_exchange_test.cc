#include "worker/engine/attention/head_exchange.h"

#include <ATen/ATen.h>

#include "tests/worker/engine/comm/ranks.h"
#include "worker/engine/attention/attention_backend.h"

namespace ithaca::engine {
namespace {

struct Heads {
  int query, kv;
};
constexpr Heads kHeads[] = {{9, 3}, {4, 2}, {6, 1}, {8, 8}, {5, 5}, {7, 1}, {10, 2}};
constexpr int64_t kShard = 5, kHeadDim = 4;

void ForEachGroup(const std::function<void(Heads, Communicator&)>& body) {
  for (const Heads heads : kHeads) {
    for (int ranks = 1; ranks <= std::min(4, heads.query); ++ranks) {
      SCOPED_TRACE(std::to_string(heads.query) + "/" + std::to_string(heads.kv) + " heads on " + std::to_string(ranks));
      RunRanks(ranks, [&](Communicator& group) { body(heads, group); });
    }
  }
}

// Element (token, head, d) of the whole sequence's tensor tells its place.
at::Tensor Places(int64_t tokens, int64_t heads) {
  return at::arange(tokens * heads * kHeadDim, at::kDouble).view({tokens, heads, kHeadDim});
}

at::Tensor Random(at::IntArrayRef sizes, int rank, int salt) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(100 * salt + rank);
  return at::randn(sizes, generator, at::kDouble);
}

double SumOverRanks(Communicator& group, const at::Tensor& value) {
  at::Tensor sum = value.reshape({1}).clone();
  group.AllReduceSum(sum);
  return sum.item<double>();
}

TEST(HeadExchangeTest, ToHeadsGivesEachRankItsHeadsOfAllTokens) {
  ForEachGroup([](Heads heads, Communicator& group) {
    const plan::HeadPlan plan(heads.query, heads.kv, group.size());
    HeadExchange exchange(plan, group);
    const at::Tensor all = Places(kShard * group.size(), heads.query + 2 * heads.kv);
    const int r = group.rank();
    const at::Tensor mine = exchange.ToHeads(all.narrow(0, r * kShard, kShard));
    const at::Tensor expected = at::cat({all.narrow(1, plan.query_begin(r), plan.query_count(r)),
                                         all.narrow(1, heads.query + plan.kv_begin(r), plan.kv_count(r)),
                                         all.narrow(1, heads.query + heads.kv + plan.kv_begin(r), plan.kv_count(r))},
                                        1);
    EXPECT_TRUE(at::equal(mine, expected));
  });
}

TEST(HeadExchangeTest, QueriesComeBackFromHeadsToTokens) {
  ForEachGroup([](Heads heads, Communicator& group) {
    const plan::HeadPlan plan(heads.query, heads.kv, group.size());
    HeadExchange exchange(plan, group);
    const at::Tensor qkv = Random({kShard, heads.query + 2 * heads.kv, kHeadDim}, group.rank(), 1).to(at::kBFloat16);
    const at::Tensor queries = exchange.ToHeads(qkv).narrow(1, 0, plan.query_count(group.rank()));
    EXPECT_TRUE(at::equal(exchange.ToTokens(queries.contiguous()), qkv.narrow(1, 0, heads.query)));
    EXPECT_TRUE(at::equal(exchange.ToTokensAdjoint(qkv.narrow(1, 0, heads.query).contiguous()), queries));
  });
}

TEST(HeadExchangeTest, AdjointsHaveEqualInnerProducts) {
  ForEachGroup([](Heads heads, Communicator& group) {
    const plan::HeadPlan plan(heads.query, heads.kv, group.size());
    HeadExchange exchange(plan, group);
    const int r = group.rank();
    const int64_t tokens = kShard * group.size();
    const at::Tensor x = Random({kShard, heads.query + 2 * heads.kv, kHeadDim}, r, 1);
    const at::Tensor y = Random({tokens, plan.query_count(r) + 2 * plan.kv_count(r), kHeadDim}, r, 2);
    const double forward = SumOverRanks(group, (exchange.ToHeads(x) * y).sum());
    const double adjoint = SumOverRanks(group, (x * exchange.ToHeadsAdjoint(y)).sum());
    EXPECT_NEAR(forward, adjoint, 1e-10 * (1 + std::abs(forward)));

    const at::Tensor o = Random({tokens, plan.query_count(r), kHeadDim}, r, 3);
    const at::Tensor d = Random({kShard, heads.query, kHeadDim}, r, 4);
    const double back = SumOverRanks(group, (exchange.ToTokens(o) * d).sum());
    EXPECT_NEAR(back, SumOverRanks(group, (o * exchange.ToTokensAdjoint(d)).sum()), 1e-10 * (1 + std::abs(back)));
  });
}

TEST(HeadExchangeTest, GradientsOfASharedKvHeadAreAddedInFp32) {
  // One KV head on three ranks. In bfloat16 256 + 1 + 1 would stay 256; in fp32 it is 258.
  RunRanks(3, [](Communicator& group) {
    HeadExchange exchange(plan::HeadPlan(3, 1, 3), group);
    const at::Tensor d_qkv = at::full({6, 3, 2}, group.rank() == 0 ? 256.0 : 1.0, at::kBFloat16);
    const at::Tensor d_all = exchange.ToHeadsAdjoint(d_qkv);
    ASSERT_EQ(d_all.sizes(), at::IntArrayRef({2, 5, 2}));
    EXPECT_TRUE(at::equal(d_all.narrow(1, 3, 2), at::full({2, 2, 2}, 258.0, at::kBFloat16)));
    for (int rank = 0; rank < 3; ++rank) {
      EXPECT_EQ(d_all[0][rank][0].item<double>(), rank == 0 ? 256.0 : 1.0);
    }
  });
}

TEST(HeadExchangeTest, APlanForAnotherNumberOfRanksIsRefused) {
  RunRanks(1, [](Communicator& group) { EXPECT_ANY_THROW(HeadExchange(plan::HeadPlan(4, 2, 2), group)); });
}

}  // namespace
}  // namespace ithaca::engine

#include "worker/engine/attention/ulysses_attention.h"

#include <ATen/Parallel.h>

#include "tests/worker/engine/attention/expected_attention.h"
#include "tests/worker/engine/comm/ranks.h"

namespace ithaca::engine {
namespace {

struct Case {
  int query_heads, kv_heads;
  DocumentStarts documents;  // ends with 240 tokens: divisible by 1, 2, 3, 4
  int64_t window = 0;
};
const Case kCases[] = {
    {9, 3, {0, 240}},           {9, 3, {0, 7, 100, 240}}, {4, 2, {0, 240}},
    {6, 1, {0, 120, 121, 240}}, {8, 8, {0, 240}},         {5, 1, {0, 59, 240}},
};
constexpr int64_t kTokens = 240, kHeadDim = 32;

// Forward and backward on `ranks` ranks against the expectation for the whole sequence.
void ExpectAsOneProcess(const Case& c, int ranks, const std::string& backend, bool keep_qkv) {
  SCOPED_TRACE(backend + " on " + std::to_string(ranks) + " ranks, " + std::to_string(c.query_heads) + "/" +
               std::to_string(c.kv_heads) + " heads");
  const at::Tensor qkv = RandomTensor({kTokens, c.query_heads + 2 * c.kv_heads, kHeadDim}, 1);
  const at::Tensor d_out = RandomTensor({kTokens, c.query_heads, kHeadDim}, 2);
  const ExpectedAttention expected(qkv, d_out, c.query_heads, c.kv_heads, {c.documents, c.window});
  RunRanks(ranks, [&](Communicator& group) {
    at::set_num_threads(1);  // of this rank's thread: ranks share the machine's cores
    const int64_t shard = kTokens / group.size();
    const auto mine = [&](const at::Tensor& whole) {
      return whole.narrow(0, group.rank() * shard, shard).contiguous();
    };
    UlyssesAttention attention(plan::HeadPlan(c.query_heads, c.kv_heads, ranks), kHeadDim, group, backend);
    AttentionState state;
    const at::Tensor out = attention.Forward(mine(qkv), {c.documents, c.window}, keep_qkv, state);
    EXPECT_LT(RelativeError(out, mine(expected.out_THD)), 2e-6);
    EXPECT_EQ(state.qkv_THD.defined(), keep_qkv);
    EXPECT_TRUE(at::equal(attention.OutputFromState(state), out));
    const at::Tensor again = keep_qkv ? at::Tensor() : mine(qkv);
    const at::Tensor d_qkv = attention.Backward(mine(d_out), again, {c.documents, c.window}, state);
    EXPECT_FALSE(state.out_THD.defined());
    EXPECT_LT(RelativeError(d_qkv, mine(expected.d_qkv_THD)), 1e-5);
    const int64_t kv = c.kv_heads;
    EXPECT_LT(RelativeError(d_qkv.narrow(1, c.query_heads, kv), mine(expected.d_qkv_THD).narrow(1, c.query_heads, kv)),
              1e-5);
    // qkv and the output there; then dO, qkv again unless kept, and dQ, dK, dV; and the output once more in between.
    const std::vector<DeviceSpan> spans = attention.TakeExchangeSpans();
    EXPECT_EQ(spans.size(), ranks == 1 ? 0 : keep_qkv ? 5 : 6);
    for (const DeviceSpan& span : spans) EXPECT_GT(span.end.SecondsSince(span.begin), 0);
    EXPECT_TRUE(attention.TakeExchangeSpans().empty());
  });
}

void ExpectAsOneProcess(const std::string& backend) {
  for (const Case& c : kCases) {
    for (int ranks = 1; ranks <= 4; ++ranks) ExpectAsOneProcess(c, ranks, backend, /*keep_qkv=*/ranks % 2 == 0);
  }
}

TEST(UlyssesAttentionTest, ReferenceOnAnyRanksEqualsOneProcess) { ExpectAsOneProcess("reference"); }
TEST(UlyssesAttentionTest, CpuFlashOnAnyRanksEqualsOneProcess) { ExpectAsOneProcess("cpu_flash"); }
TEST(UlyssesAttentionTest, CpuBlockedOnAnyRanksEqualsOneProcess) { ExpectAsOneProcess("cpu_blocked"); }

TEST(UlyssesAttentionTest, WindowsOnAnyRanksEqualOneProcess) {
  const Case windowed{9, 3, {0, 7, 240}, 50};
  for (int ranks = 1; ranks <= 4; ++ranks) ExpectAsOneProcess(windowed, ranks, "cpu_blocked", ranks % 2 == 0);
}

TEST(UlyssesAttentionTest, KeepingQkvChangesNoBit) {
  for (const bool keep_qkv : {false, true}) ExpectAsOneProcess(kCases[1], 3, "auto", keep_qkv);
}

TEST(UlyssesAttentionTest, DocumentsThatDoNotCoverTheSequenceAreRefused) {
  RunRanks(1, [](Communicator& group) {
    UlyssesAttention attention(plan::HeadPlan(2, 1, 1), 8, group, "auto");
    AttentionState state;
    const at::Tensor qkv = at::zeros({4, 4, 8});
    for (const DocumentStarts& wrong : {DocumentStarts{}, {0}, {0, 3}, {1, 4}, {0, 3, 2, 4}}) {
      EXPECT_ANY_THROW(attention.Forward(qkv, wrong, false, state));
    }
  });
}

}  // namespace
}  // namespace ithaca::engine

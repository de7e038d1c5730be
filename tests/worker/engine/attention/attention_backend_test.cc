#include "worker/engine/attention/attention_backend.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>

#include "tests/worker/engine/attention/expected_attention.h"
#include "worker/engine/attention/cpu_blocked.h"
#include "worker/engine/attention/cuda_auto.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

using ::testing::HasSubstr;

struct Case {
  int query_heads, kv_heads, head_dim;
  DocumentStarts documents;
  int64_t window = 0;

  AttentionMask mask() const { return {documents, window}; }
};

const std::vector<Case>& Cases() {
  static const std::vector<Case> cases = {
      {9, 3, 64, {0, 300}},
      {4, 2, 64, {0, 1, 64, 130, 131, 515}},
      {6, 1, 80, {0, 97, 97, 192, 200}},  // an empty document; a head size that is not a power of two
      {8, 8, 24, {0, 65, 256}},
      {3, 1, 128, {0, 193}},
      {2, 1, 20, {0, 50}},  // not a multiple of a vector
  };
  return cases;
}

// Windows of two tokens (of one, the gradients of q and k are zero), of less than a register tile, across tiles and
// blocks, of nearly and of more than a document.
const std::vector<Case>& WindowedCases() {
  static const std::vector<Case> cases = {
      {9, 3, 64, {0, 300}, 2},    {9, 3, 64, {0, 700}, 5},          {4, 2, 64, {0, 1, 64, 130, 131, 815}, 64},
      {2, 1, 32, {0, 900}, 193},  {6, 1, 80, {0, 97, 97, 500}, 96}, {3, 1, 128, {0, 193}, 192},
      {3, 1, 16, {0, 193}, 1000}, {2, 2, 64, {0, 1000}, 257},       {2, 1, 20, {0, 450}, 130},
  };
  return cases;
}

struct Result {
  at::Tensor out_THD, lse_HT, d_qkv_THD;
};

Result Compute(AttentionBackend& backend, const Case& c, const HeadGroups& groups, const at::Tensor& qkv_THD,
               const at::Tensor& d_out_THD) {
  const int64_t tokens = qkv_THD.size(0), queries = groups.back().query_end, kv = groups.back().kv_head + 1;
  const double scale = 1 / std::sqrt(static_cast<double>(c.head_dim));
  // Filled, so that anything not written shows.
  Result result{at::full({tokens, queries, c.head_dim}, 77, qkv_THD.options()), at::full({queries, tokens}, 77.0f),
                at::full(qkv_THD.sizes(), 77, qkv_THD.options())};
  const QkvHeads heads = QkvHeads::Of(qkv_THD, queries, kv);
  QkvHeads gradients = QkvHeads::Of(result.d_qkv_THD, queries, kv);
  backend.Forward(heads, groups, c.mask(), scale, result.out_THD, result.lse_HT);
  backend.Backward(d_out_THD, heads, result.out_THD, result.lse_HT, groups, c.mask(), scale, gradients);
  return result;
}

void ExpectExact(AttentionBackend& backend, const std::vector<Case>& cases = Cases()) {
  for (const Case& c : cases) {
    SCOPED_TRACE(std::string(backend.name()) + " " + std::to_string(c.query_heads) + "/" + std::to_string(c.kv_heads) +
                 " heads of " + std::to_string(c.head_dim) + ", window " + std::to_string(c.window));
    const int64_t tokens = c.documents.back();
    const at::Tensor qkv_THD = RandomTensor({tokens, c.query_heads + 2 * c.kv_heads, c.head_dim}, 1);
    const at::Tensor d_out_THD = RandomTensor({tokens, c.query_heads, c.head_dim}, 2);
    const ExpectedAttention expected(qkv_THD, d_out_THD, c.query_heads, c.kv_heads, c.mask());
    const HeadGroups groups = LocalHeadGroups(plan::HeadPlan(c.query_heads, c.kv_heads, 1), 0);
    const Result got = Compute(backend, c, groups, qkv_THD, d_out_THD);
    EXPECT_LT(RelativeError(got.out_THD, expected.out_THD), 2e-6);
    EXPECT_LT(RelativeError(got.lse_HT, expected.lse_HT), 1e-6);
    const QkvHeads d = QkvHeads::Of(got.d_qkv_THD, c.query_heads, c.kv_heads);
    const QkvHeads d_expected = QkvHeads::Of(expected.d_qkv_THD, c.query_heads, c.kv_heads);
    EXPECT_LT(RelativeError(d.q_THD, d_expected.q_THD), 1e-5);
    EXPECT_LT(RelativeError(d.k_THD, d_expected.k_THD), 1e-5);
    EXPECT_LT(RelativeError(d.v_THD, d_expected.v_THD), 1e-5);
  }
}

TEST(AttentionBackendTest, ReferenceIsExact) { ExpectExact(*MakeReferenceAttention()); }

TEST(AttentionBackendTest, ReferenceIsExactWithinWindows) { ExpectExact(*MakeReferenceAttention(), WindowedCases()); }

TEST(AttentionBackendTest, CpuFlashRefusesWindowsByName) {
  const Case c{2, 1, 64, {0, 100}, 50};
  const at::Tensor qkv_THD = RandomTensor({100, 4, 64}, 1), d_out_THD = RandomTensor({100, 2, 64}, 2);
  try {
    Compute(*MakeCpuFlashAttention(), c, LocalHeadGroups(plan::HeadPlan(2, 1, 1), 0), qkv_THD, d_out_THD);
    FAIL() << "a window was ignored";
  } catch (const EngineError& error) {
    EXPECT_STREQ(error.what(), "attention backend 'cpu_flash' does not do sliding windows");
  }
}

TEST(AttentionBackendTest, CpuFlashIsExact) { ExpectExact(*MakeCpuFlashAttention()); }

TEST(AttentionBackendTest, CpuBlockedIsExactWithEveryInstructionSet) {
  int tried = 0;
  for (const blocked::Kernels* kernels = blocked::AvailableKernels(); kernels->name != nullptr; ++kernels, ++tried) {
    SCOPED_TRACE(kernels->name);
    ExpectExact(*MakeCpuBlockedAttention(*kernels));
    ExpectExact(*MakeCpuBlockedAttention(*kernels), WindowedCases());
  }
  EXPECT_GE(tried, 1);
}

TEST(AttentionBackendTest, CpuBlockedIsExactWithAnyNumberOfThreads) {
  const int before = at::get_num_threads();
  for (const int threads : {1, 2, 5}) {
    SCOPED_TRACE(threads);
    at::set_num_threads(threads);
    ExpectExact(*MakeCpuBlockedAttention());
    ExpectExact(*MakeCpuBlockedAttention(), WindowedCases());
  }
  at::set_num_threads(before);
}

TEST(AttentionBackendTest, CpuBlockedGivesTheSameBitsEveryTime) {
  const Case c{9, 3, 64, {0, 700, 1500}};
  const at::Tensor qkv_THD = RandomTensor({1500, 15, 64}, 1), d_out_THD = RandomTensor({1500, 9, 64}, 2);
  const HeadGroups groups = LocalHeadGroups(plan::HeadPlan(9, 3, 1), 0);
  const auto backend = MakeCpuBlockedAttention();
  const Result first = Compute(*backend, c, groups, qkv_THD, d_out_THD);
  for (int run = 0; run < 4; ++run) {
    const Result again = Compute(*backend, c, groups, qkv_THD, d_out_THD);
    EXPECT_TRUE(at::equal(first.out_THD, again.out_THD));
    EXPECT_TRUE(at::equal(first.lse_HT, again.lse_HT));
    EXPECT_TRUE(at::equal(first.d_qkv_THD, again.d_qkv_THD));
  }
}

TEST(AttentionBackendTest, CpuBlockedSurvivesLargeScores) {
  // Scores in the thousands: weights are 0 or 1 but for ties, and nothing may overflow.
  const Case c{2, 1, 64, {0, 400}};
  const at::Tensor qkv_THD = RandomTensor({400, 4, 64}, 1) * 30, d_out_THD = RandomTensor({400, 2, 64}, 2);
  const ExpectedAttention expected(qkv_THD, d_out_THD, 2, 1, c.documents);
  const Result got =
      Compute(*MakeCpuBlockedAttention(), c, LocalHeadGroups(plan::HeadPlan(2, 1, 1), 0), qkv_THD, d_out_THD);
  EXPECT_LT(RelativeError(got.out_THD, expected.out_THD), 1e-3);
  EXPECT_LT(RelativeError(got.lse_HT, expected.lse_HT), 1e-6);
  EXPECT_TRUE(at::isfinite(got.d_qkv_THD).all().item<bool>());
}

// Every rank's share of a plan whose groups differ in size equals the same heads of the whole.
TEST(AttentionBackendTest, UnevenGroupsEqualTheWholeModelsHeads) {
  const Case c{9, 3, 32, {0, 40, 150}};
  const at::Tensor qkv_THD = RandomTensor({150, 15, 32}, 1), d_out_THD = RandomTensor({150, 9, 32}, 2);
  const ExpectedAttention expected(qkv_THD, d_out_THD, 9, 3, c.documents);
  for (const char* name : {"reference", "cpu_flash", "cpu_blocked"}) {
    const plan::HeadPlan plan(9, 3, 4);
    at::Tensor d_kv_THD = at::zeros({150, 6, 32});
    for (int rank = 0; rank < 4; ++rank) {
      const HeadGroups groups = LocalHeadGroups(plan, rank);
      const at::Tensor mine_THD = at::cat({qkv_THD.narrow(1, plan.query_begin(rank), plan.query_count(rank)),
                                           qkv_THD.narrow(1, 9 + plan.kv_begin(rank), plan.kv_count(rank)),
                                           qkv_THD.narrow(1, 12 + plan.kv_begin(rank), plan.kv_count(rank))},
                                          1);
      const auto part = [&](const at::Tensor& x) {
        return x.narrow(1, plan.query_begin(rank), plan.query_count(rank));
      };
      const auto backend = MakeAttentionBackend(name, mine_THD, groups);
      const Result got = Compute(*backend, c, groups, mine_THD, part(d_out_THD).contiguous());
      EXPECT_LT(RelativeError(got.out_THD, part(expected.out_THD)), 2e-6) << name;
      EXPECT_LT(RelativeError(got.d_qkv_THD.narrow(1, 0, plan.query_count(rank)), part(expected.d_qkv_THD)), 1e-5);
      for (int kv = 0; kv < 2; ++kv) {
        d_kv_THD.narrow(1, 3 * kv + plan.kv_begin(rank), plan.kv_count(rank))
            .add_(got.d_qkv_THD.narrow(1, plan.query_count(rank) + kv * plan.kv_count(rank), plan.kv_count(rank)));
      }
    }
    EXPECT_LT(RelativeError(d_kv_THD, expected.d_qkv_THD.narrow(1, 9, 6)), 1e-5) << name;
  }
}

TEST(AttentionBackendTest, CpuBlockedInBfloat16IsAtLeastAsCloseAsFlash) {
  const Case c{4, 2, 64, {0, 100, 600}};
  const at::Tensor qkv_THD = RandomTensor({600, 8, 64}, 1, at::kBFloat16);
  const at::Tensor d_out_THD = RandomTensor({600, 4, 64}, 2, at::kBFloat16);
  const ExpectedAttention expected(qkv_THD, d_out_THD, 4, 2, c.documents);
  const HeadGroups groups = LocalHeadGroups(plan::HeadPlan(4, 2, 1), 0);
  const Result flash = Compute(*MakeCpuFlashAttention(), c, groups, qkv_THD, d_out_THD);
  const Result blocked = Compute(*MakeCpuBlockedAttention(), c, groups, qkv_THD, d_out_THD);
  EXPECT_EQ(blocked.out_THD.scalar_type(), at::kBFloat16);
  EXPECT_LT(RelativeError(blocked.out_THD, expected.out_THD),
            1.05 * RelativeError(flash.out_THD, expected.out_THD) + 1e-5);
  EXPECT_LT(RelativeError(blocked.d_qkv_THD, expected.d_qkv_THD),
            1.05 * RelativeError(flash.d_qkv_THD, expected.d_qkv_THD) + 1e-5);
  EXPECT_LT(RelativeError(blocked.d_qkv_THD, expected.d_qkv_THD), 5e-3);
}

TEST(CudnnLengthsTest, TakesFewDocumentsOfFewLengths) {
  CudnnLengths lengths;
  EXPECT_TRUE(lengths.Take({0, 100}));
  EXPECT_TRUE(lengths.Take({0, 60, 60, 100}));           // 60 and 40; an empty document is none
  EXPECT_FALSE(lengths.Take({0, 10, 20, 30, 40, 100}));  // five documents
  EXPECT_FALSE(lengths.Take({0, 30, 100}));              // 30 and 70 would be the fourth and fifth length
  EXPECT_TRUE(lengths.Take({0, 30, 60, 100}));           // what was refused is not remembered: 30 is the fourth
  EXPECT_FALSE(lengths.Take({0, 99}));
  EXPECT_TRUE(lengths.Take({0, 100}));
}

TEST(AttentionBackendTest, WhatABackendCannotDoItRefusesByName) {
  const HeadGroups groups = LocalHeadGroups(plan::HeadPlan(2, 1, 1), 0);
  const at::Tensor sample = at::zeros({4, 2, 8});
  const auto message = [&](const std::string& name) -> std::string {
    try {
      MakeAttentionBackend(name, sample, groups);
    } catch (const EngineError& error) {
      EXPECT_EQ(error.code(), plan::ExitCode::kInvalidConfig);
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message("auto"), "");
  EXPECT_THAT(message("cudnn"), HasSubstr("'cudnn' does not run on cpu"));
  EXPECT_THAT(message("cuda_flash"), HasSubstr("'cuda_flash' does not run on cpu"));
  EXPECT_THAT(message("cuda_efficient"), HasSubstr("'cuda_efficient' does not run on cpu"));
  EXPECT_THAT(message("eager"), HasSubstr("no attention backend 'eager'"));
  const Case c{2, 1, 8, {0, 4}};
  const at::Tensor doubles = at::zeros({4, 4, 8}, at::kDouble);
  EXPECT_THROW(Compute(*MakeCpuBlockedAttention(), c, groups, doubles, doubles.narrow(1, 0, 2)), EngineError);
  const Case long_one{1, 1, 8, {0, 9000}};
  const at::Tensor many = at::zeros({9000, 3, 8});
  EXPECT_THROW(Compute(*MakeReferenceAttention(), long_one, LocalHeadGroups(plan::HeadPlan(1, 1, 1), 0), many,
                       many.narrow(1, 0, 1)),
               EngineError);
}

}  // namespace
}  // namespace ithaca::engine

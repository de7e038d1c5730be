#include "worker/engine/comm/communicator.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <future>
#include <mutex>

#include "tests/worker/engine/comm/ranks.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

using plan::ExitCode;
using ::testing::HasSubstr;

// Rank r sends r + d + 1 rows to rank d, each row holding (r, d, row).
void ExchangeRows(Communicator& group, at::ScalarType dtype) {
  std::vector<int64_t> input_splits, output_splits;
  std::vector<at::Tensor> sent, expected;
  const auto rows = [&](int from, int to) {
    const int64_t count = from + to + 1;
    at::Tensor block = at::empty({count, 3}, dtype);
    for (int64_t row = 0; row < count; ++row) {
      block[row][0] = from;
      block[row][1] = to;
      block[row][2] = row;
    }
    return block;
  };
  for (int peer = 0; peer < group.size(); ++peer) {
    sent.push_back(rows(group.rank(), peer));
    expected.push_back(rows(peer, group.rank()));
    input_splits.push_back(sent.back().size(0));
    output_splits.push_back(expected.back().size(0));
  }
  const at::Tensor input = at::cat(sent);
  at::Tensor output = at::zeros_like(at::cat(expected));
  group.AllToAll(output, input, output_splits, input_splits);
  EXPECT_TRUE(at::equal(output, at::cat(expected)));
}

TEST(CommunicatorTest, AllToAllMovesUnevenRowsToTheirRank) {
  for (int size = 1; size <= 4; ++size) RunRanks(size, [](Communicator& group) { ExchangeRows(group, at::kFloat); });
}

TEST(CommunicatorTest, AllToAllMovesBfloat16) {
  RunRanks(3, [](Communicator& group) { ExchangeRows(group, at::kBFloat16); });
}

TEST(CommunicatorTest, AllToAllKeepsTheBitsOfNotANumber) {
  RunRanks(2, [](Communicator& group) {
    const at::Tensor bits = at::arange(0x7f80, 0x7fc0, at::kInt).to(at::kShort);  // infinity and signalling NaNs
    const at::Tensor input = bits.view(at::kBFloat16).view({2, 32});
    at::Tensor output = at::zeros_like(input);
    group.AllToAll(output, input, {1, 1}, {1, 1});
    const at::Tensor expected = bits.view({2, 32})[group.rank()].unsqueeze(0).expand({2, 32});
    EXPECT_TRUE(at::equal(output.view(at::kShort), expected));
    EXPECT_EQ(group.bytes_sent(), 64);
  });
}

TEST(CommunicatorTest, AllReduceSumIsTheSameBitsOnEveryRankAndInEveryRun) {
  constexpr int kRanks = 4, kRuns = 5;
  std::mutex mutex;
  std::vector<at::Tensor> sums;
  RunRanks(kRanks, [&](Communicator& group) {
    at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(group.rank());
    const at::Tensor mine = at::randn({100003}, generator);
    for (int run = 0; run < kRuns; ++run) {
      at::Tensor sum = mine.clone();
      group.AllReduceSum(sum);
      const std::lock_guard<std::mutex> lock(mutex);
      sums.push_back(sum);
    }
  });
  ASSERT_EQ(sums.size(), kRanks * kRuns);
  at::Tensor exact = at::zeros({100003}, at::kDouble);
  for (int rank = 0; rank < kRanks; ++rank) {
    at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(rank);
    exact += at::randn({100003}, generator).to(at::kDouble);
  }
  EXPECT_LT((sums[0].to(at::kDouble) - exact).abs().max().item<double>(), 2e-6);
  for (const at::Tensor& sum : sums) EXPECT_TRUE(at::equal(sum, sums[0]));
}

TEST(CommunicatorTest, MaximumAndBroadcastReachEveryRank) {
  RunRanks(3, [](Communicator& group) {
    at::Tensor largest = at::tensor({static_cast<float>(group.rank()), static_cast<float>(-group.rank())});
    group.AllReduceMax(largest);
    EXPECT_TRUE(at::equal(largest, at::tensor({2.0f, 0.0f})));
    at::Tensor from_one = at::full({4}, group.rank(), at::kLong);
    group.Broadcast(from_one, 1);
    EXPECT_TRUE(at::equal(from_one, at::ones({4}, at::kLong)));
  });
}

TEST(CommunicatorTest, PartsAreSummedWhereTheyBelongAndGatheredEverywhere) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    for (int size = 1; size <= 3; ++size) {
      RunRanks(size, [&](Communicator& group) {
        const at::Tensor base = at::arange(5 * size, at::kFloat).to(dtype);
        at::Tensor parts = base * (group.rank() + 1);
        group.ReduceScatterSum(parts);
        const at::Tensor mine = parts.narrow(0, 5 * group.rank(), 5);
        EXPECT_TRUE(at::equal(mine, (base * (size * (size + 1) / 2)).narrow(0, 5 * group.rank(), 5)));
        at::Tensor whole = at::full({5 * size}, -1.0, base.options());
        whole.narrow(0, 5 * group.rank(), 5).copy_(base.narrow(0, 5 * group.rank(), 5));
        group.AllGather(whole);
        EXPECT_TRUE(at::equal(whole, base));
      });
    }
  }
}

TEST(CommunicatorTest, AbortFailsThePendingCollectiveAndAllLaterOnesOnEveryRank) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  std::promise<void> waiting;
  const auto make = [&](int rank) {
    return MakeGlooCommunicator(
        {.name = "test", .store = store, .rank = rank, .size = 2, .local_address = "127.0.0.1"});
  };
  std::thread other([&] {
    const auto group = make(1);
    at::Tensor tensor = at::ones({8});
    waiting.get_future().wait();
    group->Abort("asked to");
    EXPECT_THROW(group->AllReduceSum(tensor), EngineError);
  });
  const auto group = make(0);
  at::Tensor tensor = at::ones({8});
  waiting.set_value();
  try {
    group->AllReduceSum(tensor);
    ADD_FAILURE() << "the other rank never took part";
  } catch (const EngineError& error) {
    EXPECT_EQ(error.code(), ExitCode::kPeerLost) << error.what();
    EXPECT_THAT(error.what(), HasSubstr("rank 0 of 2 in group test: all-reduce failed"));
  }
  EXPECT_THROW(group->Barrier(), EngineError);
  other.join();
}

TEST(CommunicatorTest, ACollectiveThatAPeerNeverJoinsTimesOut) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  std::promise<void> failed;
  const auto make = [&](int rank) {
    return MakeGlooCommunicator({.name = "test",
                                 .store = store,
                                 .rank = rank,
                                 .size = 2,
                                 .local_address = "127.0.0.1",
                                 .timeout = std::chrono::milliseconds(2000)});
  };
  std::thread other([&] {
    const auto group = make(1);
    failed.get_future().wait();
  });
  const auto group = make(0);
  at::Tensor tensor = at::ones({8});
  try {
    group->AllReduceSum(tensor);
    ADD_FAILURE() << "the other rank never took part";
  } catch (const EngineError& error) {
    EXPECT_EQ(error.code(), ExitCode::kCollectiveFailed) << error.what();
  }
  failed.set_value();
  other.join();
}

}  // namespace
}  // namespace ithaca::engine

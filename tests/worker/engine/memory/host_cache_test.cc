#include "worker/engine/memory/host_cache.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace ithaca::engine {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

class HostCacheTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { InstallHostCache(); }
  void SetUp() override { TrimHostCache(); }

  static at::Tensor Bytes(int64_t bytes) { return at::empty({bytes}, at::kByte); }
};

TEST_F(HostCacheTest, AFreedBlockServesTheNextTensorOfItsSize) {
  at::Tensor first = Bytes(3 * kMiB);
  const void* const where = first.data_ptr();
  first.reset();
  EXPECT_EQ(HostCacheBytes(), 3 * kMiB);
  const at::Tensor second = Bytes(3 * kMiB);
  EXPECT_EQ(second.data_ptr(), where);
  EXPECT_EQ(HostCacheBytes(), 0);
}

TEST_F(HostCacheTest, ABlockInUseIsNobodyElses) {
  const at::Tensor first = Bytes(2 * kMiB);
  const at::Tensor second = Bytes(2 * kMiB);
  EXPECT_NE(first.data_ptr(), second.data_ptr());
}

TEST_F(HostCacheTest, AMuchLargerBlockIsNotWastedOnASmallTensor) {
  Bytes(8 * kMiB);
  const at::Tensor small = Bytes(kMiB);
  EXPECT_EQ(HostCacheBytes(), 8 * kMiB);
  const at::Tensor near = Bytes(15 * kMiB / 2);
  EXPECT_EQ(HostCacheBytes(), 0);
}

TEST_F(HostCacheTest, SmallBlocksAreNotKept) {
  Bytes(1000);
  EXPECT_EQ(HostCacheBytes(), 0);
}

TEST_F(HostCacheTest, TheSameRoundOfTensorsNeverGrows) {
  const auto round = [] {
    const at::Tensor a = Bytes(kMiB), b = Bytes(2 * kMiB);
    Bytes(3 * kMiB);
    const at::Tensor c = Bytes(kMiB + 5);
  };
  round();
  const int64_t after_one = HostCacheBytes();
  for (int i = 0; i < 50; ++i) round();
  EXPECT_EQ(HostCacheBytes(), after_one);
  TrimHostCache();
  EXPECT_EQ(HostCacheBytes(), 0);
}

TEST_F(HostCacheTest, ThreadsMayFreeWhatOthersAllocated) {
  std::vector<at::Tensor> tensors;
  for (int i = 0; i < 8; ++i) tensors.push_back(at::full({kMiB}, i, at::kByte));
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&tensors, i] {
      for (int turn = 0; turn < 200; ++turn) {
        at::Tensor next = at::full({kMiB}, i, at::kByte);
        std::swap(tensors[i], next);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(tensors[i].eq(i).all().item<bool>());
}

TEST_F(HostCacheTest, WhatTheHostCannotServeThrows) { EXPECT_ANY_THROW(Bytes(int64_t{1} << 50)); }

}  // namespace
}  // namespace ithaca::engine

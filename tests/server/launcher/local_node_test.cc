#include "server/launcher/local/local_node.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace ithaca {
namespace {

// On the four GPUs of tests/fakes/fake_nvml.cc.
class LocalNodeTest : public ::testing::Test {
 protected:
  ~LocalNodeTest() override { ::unsetenv("CUDA_VISIBLE_DEVICES"); }

  static DevicePool Gpus() {
    for (const DevicePool& pool : DescribeLocalNode("here", 0).pools) {
      if (pool.device == v1::DEVICE_KIND_CUDA) return pool;
    }
    return {};
  }
};

TEST_F(LocalNodeTest, AllGpusAreSlotsWithoutAList) {
  ::unsetenv("CUDA_VISIBLE_DEVICES");
  const DevicePool gpus = Gpus();
  EXPECT_EQ(gpus.slots, 4);
  EXPECT_EQ(gpus.device_name, "fake 0");
  EXPECT_EQ(gpus.bytes_per_slot, int64_t{7} << 30) << "the smallest counts";
}

TEST_F(LocalNodeTest, OnlyThoseOfAnInheritedListAreSlots) {
  ::setenv("CUDA_VISIBLE_DEVICES", "1,GPU-two", 1);
  const DevicePool gpus = Gpus();
  EXPECT_EQ(gpus.slots, 2);
  EXPECT_EQ(gpus.device_name, "fake 1");
  EXPECT_EQ(gpus.bytes_per_slot, int64_t{8} << 30);
}

TEST_F(LocalNodeTest, HiddenGpusAreNoSlotsAndTheCpuIsOne) {
  ::setenv("CUDA_VISIBLE_DEVICES", "", 1);
  EXPECT_EQ(Gpus().slots, 0);
  const Node node = DescribeLocalNode("here", -1);
  ASSERT_EQ(node.pools.size(), 1u);
  EXPECT_EQ(node.pools[0].device, v1::DEVICE_KIND_CPU);
}

}  // namespace
}  // namespace ithaca

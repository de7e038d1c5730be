#include "worker/agent/run_files.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

namespace ithaca {
namespace {

class EngineEnvironmentTest : public ::testing::Test {
 protected:
  ~EngineEnvironmentTest() override { ::unsetenv("CUDA_VISIBLE_DEVICES"); }

  // What an engine of rank 0 gets when its worker has the slots, one a rank.
  static std::map<std::string, std::string> EnvironmentFor(const std::vector<int>& slots) {
    v1::Assignment assignment;
    for (const int slot : slots) {
      v1::RankAssignment& rank = *assignment.add_ranks();
      rank.set_rank(assignment.ranks_size() - 1);
      rank.set_local_rank(rank.rank());
      rank.add_devices(slot);
    }
    const EngineCommand command = MakeEngineCommand(AgentOptions(), assignment, RankPlace());
    return {command.environment.begin(), command.environment.end()};
  }
};

TEST_F(EngineEnvironmentTest, SlotsAreIndicesByPciBus) {
  ::unsetenv("CUDA_VISIBLE_DEVICES");
  auto environment = EnvironmentFor({2, 3});
  EXPECT_EQ(environment["CUDA_VISIBLE_DEVICES"], "2,3");
  EXPECT_EQ(environment["CUDA_DEVICE_ORDER"], "PCI_BUS_ID");
}

TEST_F(EngineEnvironmentTest, AnInheritedListIsNarrowedNotReplaced) {
  ::setenv("CUDA_VISIBLE_DEVICES", "7,GPU-8932f937,5", 1);
  EXPECT_EQ(EnvironmentFor({0, 2})["CUDA_VISIBLE_DEVICES"], "7,5");
  EXPECT_EQ(EnvironmentFor({1})["CUDA_VISIBLE_DEVICES"], "GPU-8932f937");
}

TEST_F(EngineEnvironmentTest, ARankWithoutDevicesSeesNone) {
  ::setenv("CUDA_VISIBLE_DEVICES", "7", 1);
  EXPECT_EQ(EnvironmentFor({})["CUDA_VISIBLE_DEVICES"], "");
}

}  // namespace
}  // namespace ithaca

#include "proto/visible_devices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ithaca {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(VisibleDevices, WithoutAListAllAre) {
  EXPECT_THAT(VisibleDevices(nullptr, 3), ElementsAre("0", "1", "2"));
  EXPECT_THAT(VisibleDevices(nullptr, 0), IsEmpty());
}

TEST(VisibleDevices, AListSaysWhichAndInWhichOrder) {
  EXPECT_THAT(VisibleDevices("3,1", 4), ElementsAre("3", "1"));
  EXPECT_THAT(VisibleDevices(" 2 , GPU-8932f937-d72c", 4), ElementsAre("2", "GPU-8932f937-d72c"));
  EXPECT_THAT(VisibleDevices("MIG-GPU-1/2/3", 1), ElementsAre("MIG-GPU-1/2/3"));
}

TEST(VisibleDevices, AListEndsAtItsFirstMistake) {
  EXPECT_THAT(VisibleDevices("", 4), IsEmpty());
  EXPECT_THAT(VisibleDevices("-1", 4), IsEmpty());
  EXPECT_THAT(VisibleDevices("NoDevFiles", 4), IsEmpty());
  EXPECT_THAT(VisibleDevices("1,4,2", 4), ElementsAre("1"));
  EXPECT_THAT(VisibleDevices("1,,2", 4), ElementsAre("1"));
}

}  // namespace
}  // namespace ithaca

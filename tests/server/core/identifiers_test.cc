#include "server/core/identifiers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <regex>
#include <set>
#include <vector>

namespace ithaca {
namespace {

TEST(JobIds, SortInOrderOfCreationAndAreDnsLabels) {
  JobIds ids;
  std::vector<std::string> made;
  absl::Time now = absl::FromUnixSeconds(1'700'000'000);
  for (int i = 0; i < 1000; ++i) {
    made.push_back(ids.Next(now));
    if (i % 3 == 0) now += absl::Milliseconds(1);
  }
  EXPECT_TRUE(std::ranges::is_sorted(made));
  EXPECT_EQ(std::set<std::string>(made.begin(), made.end()).size(), made.size());
  const std::regex label("j[0-9a-z]{14}");
  for (const std::string& id : made) EXPECT_TRUE(std::regex_match(id, label)) << id;
}

TEST(JobIds, AClockSetBackDoesNotBreakTheOrder) {
  JobIds ids;
  const std::string first = ids.Next(absl::FromUnixSeconds(2000));
  EXPECT_LT(first, ids.Next(absl::FromUnixSeconds(1000)));
}

TEST(Token, IsLongAndNewEachTime) {
  EXPECT_EQ(NewToken().size(), 64u);
  EXPECT_NE(NewToken(), NewToken());
}

TEST(SameSecret, ComparesWhole) {
  EXPECT_TRUE(SameSecret("abc", "abc"));
  EXPECT_FALSE(SameSecret("abc", "abd"));
  EXPECT_FALSE(SameSecret("abc", "ab"));
  EXPECT_FALSE(SameSecret("abc", ""));
}

}  // namespace
}  // namespace ithaca

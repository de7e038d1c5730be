#include "worker/plan/head_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace ithaca::plan {
namespace {

TEST(HeadPlanTest, EveryQueryHeadHasOneOwnerAndItsOwnKvHeadForAllSplits) {
  for (int kv_heads = 1; kv_heads <= 16; ++kv_heads) {
    for (int group = 1; group * kv_heads <= 24; ++group) {
      const int query_heads = group * kv_heads;
      for (int ranks = 1; ranks <= query_heads; ++ranks) {
        ASSERT_EQ(HeadPlan::Validate(query_heads, kv_heads, ranks), "");
        const HeadPlan plan(query_heads, kv_heads, ranks);
        std::vector<int> owners(query_heads, 0);
        int least = query_heads, most = 0;
        for (int rank = 0; rank < ranks; ++rank) {
          least = std::min(least, plan.query_count(rank));
          most = std::max(most, plan.query_count(rank));
          for (const HeadSegment& segment : plan.Segments(rank)) {
            ASSERT_LT(segment.query_begin, segment.query_end);
            ASSERT_GE(segment.kv_head, plan.kv_begin(rank));
            ASSERT_LT(segment.kv_head, plan.kv_begin(rank) + plan.kv_count(rank));
            for (int head = segment.query_begin; head < segment.query_end; ++head) {
              ++owners[head];
              ASSERT_EQ(segment.kv_head, head / group);
            }
          }
        }
        ASSERT_EQ(std::count(owners.begin(), owners.end(), 1), query_heads);
        ASSERT_LE(most - least, 1);
        ASSERT_EQ(plan.max_query_count(), most);
      }
    }
  }
}

TEST(HeadPlanTest, NineHeadsOnFourRanksShareKvHeadsWhereTheyMust) {
  const HeadPlan plan(9, 3, 4);
  int sent = 0;
  for (int rank = 0; rank < 4; ++rank) sent += plan.kv_count(rank);
  EXPECT_EQ(plan.max_query_count(), 3);
  EXPECT_EQ(plan.max_kv_count(), 2);
  EXPECT_GT(sent, 3);
}

TEST(HeadPlanTest, RefusesWhatCannotBeSplitWithAReason) {
  EXPECT_NE(HeadPlan::Validate(9, 3, 10), "");
  EXPECT_NE(HeadPlan::Validate(9, 3, 0), "");
  EXPECT_NE(HeadPlan::Validate(9, 2, 1), "");
}

}  // namespace
}  // namespace ithaca::plan

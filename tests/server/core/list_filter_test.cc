#include "server/core/list_filter.h"

#include <gtest/gtest.h>

#include "proto/errors.h"

namespace ithaca {
namespace {

v1::Job JobOf(v1::JobState state, const std::string& name, const std::string& team) {
  v1::Job job;
  job.set_state(state);
  job.set_name(name);
  (*job.mutable_labels())["team"] = team;
  return job;
}

bool Matches(const std::string& filter, const v1::Job& job) {
  const auto parsed = ListFilter::Parse(filter);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.ok() && parsed->Matches(job);
}

TEST(ListFilter, MatchesByStateNameAndLabel) {
  const v1::Job job = JobOf(v1::JOB_STATE_RUNNING, "long", "red");
  EXPECT_TRUE(Matches("", job));
  EXPECT_TRUE(Matches("state=RUNNING", job));
  EXPECT_TRUE(Matches("state=QUEUED|RUNNING", job));
  EXPECT_FALSE(Matches("state=QUEUED", job));
  EXPECT_TRUE(Matches("name=long AND labels.team=red", job));
  EXPECT_FALSE(Matches("name=long AND labels.team=blue", job));
  EXPECT_FALSE(Matches("labels.other=red", job));
}

TEST(ListFilter, RefusesWhatItDoesNotKnow) {
  for (const char* filter : {"state", "state=", "state=NONE", "=x", "size=3", "name=a AND ", "state=running"}) {
    const absl::Status status = ListFilter::Parse(filter).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << filter;
    ASSERT_EQ(MistakesOf(status).size(), 1u);
    EXPECT_EQ(MistakesOf(status)[0].field, "filter");
  }
}

TEST(PageToken, IsGoodForItsQuestionOnly) {
  const std::string token = MakePageToken("jobs state=RUNNING", "42");
  EXPECT_EQ(*ReadPageToken("jobs state=RUNNING", token), "42");
  EXPECT_EQ(ReadPageToken("jobs ", token).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadPageToken("jobs ", "garbage!").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(PageSize, IsCappedNotRefused) {
  EXPECT_EQ(*PageSize(0, 50), 50);
  EXPECT_EQ(*PageSize(7, 50), 7);
  EXPECT_EQ(*PageSize(1 << 30, 50), 1000);
  EXPECT_FALSE(PageSize(-1, 50).ok());
}

}  // namespace
}  // namespace ithaca

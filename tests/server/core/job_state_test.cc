#include "server/core/job_state.h"

#include <gtest/gtest.h>

#include <set>
#include <utility>

#include "proto/errors.h"

namespace ithaca {
namespace {

using State = v1::JobState;

std::vector<State> AllStates() {
  std::vector<State> states;
  for (int state = 1; state < v1::JobState_ARRAYSIZE; ++state) states.push_back(static_cast<State>(state));
  return states;
}

// The table of the header, written down a second time from the life of a job.
const std::set<std::pair<std::string, std::string>> kLegal = {
    {"QUEUED", "STARTING"},    {"QUEUED", "PAUSED"},    {"QUEUED", "CANCELLED"},   {"STARTING", "RUNNING"},
    {"STARTING", "STOPPING"},  {"STARTING", "BACKOFF"}, {"STARTING", "SUCCEEDED"}, {"STARTING", "FAILED"},
    {"RUNNING", "STOPPING"},   {"RUNNING", "BACKOFF"},  {"RUNNING", "SUCCEEDED"},  {"RUNNING", "FAILED"},
    {"STOPPING", "BACKOFF"},   {"STOPPING", "PAUSED"},  {"STOPPING", "SUCCEEDED"}, {"STOPPING", "FAILED"},
    {"STOPPING", "CANCELLED"}, {"BACKOFF", "QUEUED"},   {"BACKOFF", "PAUSED"},     {"BACKOFF", "CANCELLED"},
    {"PAUSED", "QUEUED"},      {"PAUSED", "CANCELLED"}};

TEST(JobState, AllowsExactlyTheLegalTransitions) {
  for (const State from : AllStates()) {
    for (const State to : AllStates()) {
      EXPECT_EQ(CanTransition(from, to), kLegal.contains({StateName(from), StateName(to)}))
          << StateName(from) << " -> " << StateName(to);
    }
  }
}

TEST(JobState, TerminalStatesHaveNoWayOut) {
  for (const State from : {v1::JOB_STATE_SUCCEEDED, v1::JOB_STATE_FAILED, v1::JOB_STATE_CANCELLED}) {
    EXPECT_TRUE(IsTerminal(from));
    for (const State to : AllStates()) EXPECT_FALSE(CanTransition(from, to)) << StateName(from);
  }
}

TEST(JobState, EveryOtherStateReachesATerminalOne) {
  for (const State start : AllStates()) {
    std::set<State> reached{start};
    for (size_t before = 0; before != reached.size();) {
      before = reached.size();
      for (const State from : std::set<State>(reached)) {
        for (const State to : AllStates()) {
          if (CanTransition(from, to)) reached.insert(to);
        }
      }
    }
    EXPECT_TRUE(reached.contains(v1::JOB_STATE_CANCELLED) || IsTerminal(start)) << StateName(start);
  }
}

TEST(JobState, RefusalNamesBothStates) {
  const absl::Status status = CheckTransition(v1::JOB_STATE_FAILED, v1::JOB_STATE_RUNNING);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonOf(status), "ILLEGAL_TRANSITION");
  EXPECT_EQ(status.message(), "a job that is FAILED cannot become RUNNING");
}

}  // namespace
}  // namespace ithaca

#include "server/core/job_state.h"

#include <array>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "proto/errors.h"

namespace ithaca {
namespace {

struct Row {
  v1::JobState from;
  std::vector<v1::JobState> to;  // owned: the table outlives the expression that makes it
};

const std::array<Row, 6>& Table() {
  using namespace v1;  // NOLINT: the table reads better without prefixes
  static const std::array<Row, 6>* const table = new std::array<Row, 6>{{
      {JOB_STATE_QUEUED, {JOB_STATE_STARTING, JOB_STATE_PAUSED, JOB_STATE_CANCELLED}},
      {JOB_STATE_STARTING,
       {JOB_STATE_RUNNING, JOB_STATE_STOPPING, JOB_STATE_BACKOFF, JOB_STATE_SUCCEEDED, JOB_STATE_FAILED}},
      {JOB_STATE_RUNNING, {JOB_STATE_STOPPING, JOB_STATE_BACKOFF, JOB_STATE_SUCCEEDED, JOB_STATE_FAILED}},
      {JOB_STATE_STOPPING,
       {JOB_STATE_BACKOFF, JOB_STATE_PAUSED, JOB_STATE_SUCCEEDED, JOB_STATE_FAILED, JOB_STATE_CANCELLED}},
      {JOB_STATE_BACKOFF, {JOB_STATE_QUEUED, JOB_STATE_PAUSED, JOB_STATE_CANCELLED}},
      {JOB_STATE_PAUSED, {JOB_STATE_QUEUED, JOB_STATE_CANCELLED}},
  }};
  return *table;
}

}  // namespace

bool CanTransition(v1::JobState from, v1::JobState to) {
  for (const Row& row : Table()) {
    if (row.from != from) continue;
    for (const v1::JobState allowed : row.to) {
      if (allowed == to) return true;
    }
  }
  return false;
}

absl::Status CheckTransition(v1::JobState from, v1::JobState to) {
  if (CanTransition(from, to)) return absl::OkStatus();
  return MakeError(absl::StatusCode::kFailedPrecondition, "ILLEGAL_TRANSITION",
                   absl::StrCat("a job that is ", StateName(from), " cannot become ", StateName(to)));
}

bool IsTerminal(v1::JobState state) {
  return state == v1::JOB_STATE_SUCCEEDED || state == v1::JOB_STATE_FAILED || state == v1::JOB_STATE_CANCELLED;
}

bool HoldsSlots(v1::JobState state) {
  return state == v1::JOB_STATE_STARTING || state == v1::JOB_STATE_RUNNING || state == v1::JOB_STATE_STOPPING;
}

std::string StateName(v1::JobState state) {
  return std::string(absl::StripPrefix(v1::JobState_Name(state), "JOB_STATE_"));
}

std::string ReasonName(v1::JobReason reason) {
  return std::string(absl::StripPrefix(v1::JobReason_Name(reason), "JOB_REASON_"));
}

}  // namespace ithaca

#pragma once

#include <string>

#include "absl/status/status.h"
#include "ithaca/v1/job.pb.h"

namespace ithaca {

// The states of a job and the only steps between them; a step that this table does not have is refused.
//
//   from \ to   STARTING RUNNING STOPPING BACKOFF QUEUED PAUSED SUCCEEDED FAILED CANCELLED
//   QUEUED         x                                       x                         x
//   STARTING                 x       x       x                      x        x
//   RUNNING                          x       x                      x        x
//   STOPPING                                 x               x      x        x       x
//   BACKOFF                                          x       x                       x
//   PAUSED                                           x                               x
//
// STARTING, RUNNING and STOPPING hold slots and have an open attempt. Whatever ends an attempt early (cancel, pause, a
// failure) goes through STOPPING while processes are left; the state after it is written when they are gone.
bool CanTransition(v1::JobState from, v1::JobState to);

// OK, or FAILED_PRECONDITION that names both states.
absl::Status CheckTransition(v1::JobState from, v1::JobState to);

bool IsTerminal(v1::JobState state);  // SUCCEEDED, FAILED, CANCELLED
bool HoldsSlots(v1::JobState state);  // STARTING, RUNNING, STOPPING

std::string StateName(v1::JobState state);     // "QUEUED"
std::string ReasonName(v1::JobReason reason);  // "WAITING_FOR_SLOTS"

// Why a job is in its state: for machines, who can do something about it, and a sentence for people.
struct Cause {
  v1::JobReason reason = v1::JOB_REASON_UNSPECIFIED;
  v1::Blame blame = v1::BLAME_UNSPECIFIED;
  std::string message;
};

}  // namespace ithaca

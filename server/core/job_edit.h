#pragma once

#include "absl/time/time.h"
#include "google/protobuf/timestamp.pb.h"
#include "server/core/job_state.h"

namespace ithaca {

google::protobuf::Timestamp ToProtoTime(absl::Time time);

void SetCause(v1::Job& job, const Cause& cause);

// Sets the state and, if it is terminal, the end time.
void SetEnd(v1::Job& job, v1::JobState state, absl::Time now);

}  // namespace ithaca

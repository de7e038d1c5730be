#include "server/core/job_edit.h"

#include "google/protobuf/util/time_util.h"

namespace ithaca {

google::protobuf::Timestamp ToProtoTime(absl::Time time) {
  return google::protobuf::util::TimeUtil::MicrosecondsToTimestamp(absl::ToUnixMicros(time));
}

void SetCause(v1::Job& job, const Cause& cause) {
  job.set_reason(cause.reason);
  job.set_blame(cause.blame);
  job.set_message(cause.message);
}

void SetEnd(v1::Job& job, v1::JobState state, absl::Time now) {
  job.set_state(state);
  if (IsTerminal(state)) *job.mutable_end_time() = ToProtoTime(now);
}

}  // namespace ithaca

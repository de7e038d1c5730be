#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "ithaca/v1/job_service.pb.h"
#include "server/core/attempt_files.h"
#include "server/core/job_table.h"

namespace ithaca {

// What jobs reported, read by cursor: the reader behind StreamLogs and StreamMetrics. A call never waits: it returns a
// piece of what there is. To read all: call with the last piece's cursor again until `at_end`, and to follow, after an
// `at_end` with `may_grow`, wait with JobTable::WaitForActivity or Subscribe first (take JobTable::Activity before the
// read). Cursors are opaque and survive a restart of the coordinator; a malformed one is INVALID_ARGUMENT. Thread-safe;
// table and files outlive it.
class History {
 public:
  History(JobTable& table, AttemptFiles& files) : table_(table), files_(files) {}

  template <typename Response>
  struct Piece {
    std::vector<Response> responses;  // each with its cursor
    std::string cursor;               // to go on from, also when there are no responses
    bool at_end = false;              // this was all there is now
    bool may_grow = true;             // false, with at_end: nothing will ever follow
  };

  // `attempt` 0: the newest, and with `follow` those after it.
  absl::StatusOr<Piece<v1::StreamLogsResponse>> ReadLogs(const v1::StreamLogsRequest& request,
                                                         const std::string& cursor);
  // Steps and evaluations of all attempts; of a step that several did, the newest attempt's.
  absl::StatusOr<Piece<v1::StreamMetricsResponse>> ReadMetrics(const std::string& job_id, const std::string& cursor,
                                                               int max_responses);

 private:
  JobTable& table_;
  AttemptFiles& files_;
};

}  // namespace ithaca

#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "ithaca/v1/job_service.pb.h"
#include "server/core/attempt_files.h"
#include "server/core/job_table.h"

namespace ithaca {

// What jobs reported, read by cursor: the reader behind StreamLogs and StreamMetrics. A call never waits: it returns
// what there is, up to a limit, and whether more can come. To follow: read, and where nothing came and `may_grow`, wait
// with JobTable::WaitForActivity or Subscribe, then read again. Cursors are opaque, survive a restart of the
// coordinator, and a malformed one is INVALID_ARGUMENT. Thread-safe; table and files outlive it.
class History {
 public:
  History(JobTable& table, AttemptFiles& files) : table_(table), files_(files) {}

  template <typename Response>
  struct Piece {
    std::vector<Response> responses;  // each with its cursor
    std::string cursor;               // to go on from, also when there are no responses
    bool may_grow = true;             // false: the job is terminal and this was all
  };

  // `attempt` 0: all attempts if `follow`, starting with the newest, else the newest.
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

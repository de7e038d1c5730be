#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ithaca/v1/job.pb.h"
#include "server/core/attempt_files.h"
#include "server/core/clock.h"
#include "server/core/identifiers.h"
#include "server/core/job_table.h"
#include "server/core/scheduler.h"

namespace ithaca {

// Who calls. Empty where callers are not authenticated.
struct Caller {
  std::string name;
};

struct CreateOptions {
  std::string request_id;         // empty: not safe to repeat
  bool validate_only = false;     // checks and plans, stores nothing
  std::string model_config_json;  // empty: the plan is unchecked
};

struct JobPage {
  std::vector<v1::Job> jobs;
  std::string next_page_token;  // empty: the last page
};

struct EventListPage {
  std::vector<v1::Event> events;
  std::string next_page_token;
};

struct CheckpointPage {
  std::vector<v1::Checkpoint> checkpoints;
  std::string next_page_token;
};

// What users can do to jobs: one method per RPC of JobService, with its errors and reasons. Every answer that says a
// job is stored is true: it is on disk. Thread-safe; blocks on commits, never on workers. The table, the files and the
// clock outlive it. Errors carry the details of server/core/errors.h.
class Registry {
 public:
  Registry(JobTable& table, AttemptFiles& files, const Clock& clock);

  // INVALID_ARGUMENT with every bad field; FAILED_PRECONDITION reason DOES_NOT_FIT with the plan's table;
  // ALREADY_EXISTS reason REQUEST_ID_REUSED.
  absl::StatusOr<v1::Job> Create(const Caller& caller, const v1::JobSpec& spec, const CreateOptions& options);
  absl::StatusOr<v1::Plan> Estimate(const v1::JobSpec& spec, const std::string& model_config_json);

  absl::StatusOr<v1::Job> Get(const std::string& job_id);
  // Newest first. `filter`: see list_filter.h. A page token is good only with the filter it came from.
  absl::StatusOr<JobPage> List(int page_size, const std::string& page_token, const std::string& filter);
  // QUEUED, BACKOFF, PAUSED: CANCELLED at once. STARTING, RUNNING: STOPPING, and the reconciler goes on from there;
  // STOPPING because of a failure or pause: now because of the cancel. STOPPING because of a cancel with a later end:
  // told again, with less time. Terminal: returned as it is. `grace` is what the engines get before they are killed, at
  // most 1 h; nothing: 10 s.
  absl::StatusOr<v1::Job> Cancel(const std::string& job_id, std::optional<absl::Duration> grace);
  // Only terminal jobs: FAILED_PRECONDITION reason JOB_NOT_TERMINAL. ABORTED reason ETAG_MISMATCH if an etag is given
  // that is not the stored one. Reason FILES_LEFT: deleted, but its files could not be removed; the next start does it.
  absl::Status Delete(const std::string& job_id, const std::string& etag);

  // Changes of state and what engines reported, steps and evaluations excepted, oldest first.
  absl::StatusOr<EventListPage> ListEvents(const std::string& job_id, int page_size, const std::string& page_token,
                                           absl::Time since);
  absl::StatusOr<CheckpointPage> ListCheckpoints(const std::string& job_id, int page_size,
                                                 const std::string& page_token);

  struct Change {
    v1::Job job;
    std::string cursor;
  };
  // A snapshot newer than `cursor` (empty: any), or nothing if there is none yet. To watch: take JobTable::Activity,
  // ask for the change, and while there is none wait with JobTable::WaitForActivity or Subscribe; until a terminal
  // state.
  absl::StatusOr<std::optional<Change>> NextChange(const std::string& job_id, const std::string& cursor);

 private:
  JobTable& table_;
  AttemptFiles& files_;
  const Clock& clock_;
  JobIds ids_;
};

}  // namespace ithaca

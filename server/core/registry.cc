#include "server/core/registry.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "proto/errors.h"
#include "proto/job_file.h"
#include "proto/message_limits.h"
#include "proto/status_macros.h"
#include "server/core/admission.h"
#include "server/core/job_edit.h"
#include "server/core/list_filter.h"

namespace ithaca {
namespace {

constexpr size_t kMaxRequestIdBytes = 128;
constexpr absl::Duration kDefaultGrace = absl::Seconds(10);
constexpr absl::Duration kMaxGrace = absl::Hours(1);
constexpr absl::Duration kKillSlack = absl::Seconds(5);  // time for the news of an end to arrive

absl::StatusOr<v1::Job> IfSameSpec(absl::StatusOr<v1::Job> job, const v1::JobSpec& spec,
                                   const std::string& request_id) {
  if (!job.ok() || ToRunJson(job->spec()) == ToRunJson(spec)) return job;
  return MakeError(absl::StatusCode::kAlreadyExists, "REQUEST_ID_REUSED",
                   absl::StrCat("request id ", request_id, " has already made job ", job->id(),
                                ", which is another one; use a new id"),
                   {{"job_id", job->id()}});
}

// Turns a job that may still run into one that is being, or has been, cancelled. One that is being cancelled may be
// given less time, but not more.
absl::Status ApplyCancel(JobChange& change, absl::Duration grace, absl::Time now) {
  v1::Job& job = change.job.job;
  const absl::Time deadline = now + grace + kKillSlack;
  const bool sooner = deadline < change.job.stop_deadline;
  const bool cancelling = job.state() == v1::JOB_STATE_STOPPING && job.reason() == v1::JOB_REASON_CANCEL_REQUESTED;
  if (IsTerminal(job.state()) || (cancelling && !sooner)) {
    change.unchanged = true;
    return absl::OkStatus();
  }
  if (HoldsSlots(job.state())) {
    if (sooner) {
      change.job.stop_deadline = deadline;
      change.job.stop_grace = grace;
    }
    job.set_state(v1::JOB_STATE_STOPPING);
  } else {
    SetEnd(job, v1::JOB_STATE_CANCELLED, now);
  }
  SetCause(job, {v1::JOB_REASON_CANCEL_REQUESTED, v1::BLAME_UNSPECIFIED, "cancelled on request"});
  return absl::OkStatus();
}

}  // namespace

Registry::Registry(JobTable& table, AttemptFiles& files, const Clock& clock)
    : table_(table), files_(files), clock_(clock) {}

absl::StatusOr<v1::Job> Registry::Create(const Caller& caller, const v1::JobSpec& spec, const CreateOptions& options) {
  if (options.request_id.size() > kMaxRequestIdBytes) {
    return InvalidFields({{"request_id", 0, absl::StrCat("must have at most ", kMaxRequestIdBytes, " bytes")}});
  }
  if (!options.request_id.empty()) {
    if (const std::optional<RequestKey> made = table_.FindRequest(caller.name, options.request_id)) {
      return IfSameSpec(table_.Get(made->job_id), spec, options.request_id);
    }
  }
  ASSIGN_OR_RETURN(Admission admission, Admit(spec, options.model_config_json, table_.nodes()));
  RETURN_IF_ERROR(CheckFits(admission.plan));

  JobRecord record;
  record.demand = admission.demand;
  record.job.set_name(spec.name());
  *record.job.mutable_spec() = spec;
  *record.job.mutable_labels() = spec.labels();
  record.job.set_priority(spec.priority());
  record.job.set_owner(caller.name);
  record.job.set_state(v1::JOB_STATE_QUEUED);
  *record.job.mutable_plan() = std::move(admission.plan);
  if (options.validate_only) return record.job;

  record.job.set_id(ids_.Next(clock_.Now()));
  std::optional<RequestKey> key;
  if (!options.request_id.empty()) key = RequestKey{caller.name, options.request_id, record.job.id()};
  return IfSameSpec(table_.Insert(std::move(record), key), spec, options.request_id);
}

absl::StatusOr<v1::Plan> Registry::Estimate(const v1::JobSpec& spec, const std::string& model_config_json) {
  ASSIGN_OR_RETURN(Admission admission, Admit(spec, model_config_json, table_.nodes()));
  return std::move(admission.plan);
}

absl::StatusOr<v1::Job> Registry::Get(const std::string& job_id) { return table_.Get(job_id); }

absl::StatusOr<JobPage> Registry::List(int page_size, const std::string& page_token, const std::string& filter) {
  constexpr int kDefaultPage = 50;
  ASSIGN_OR_RETURN(const int size, PageSize(page_size, kDefaultPage));
  ASSIGN_OR_RETURN(const ListFilter wanted, ListFilter::Parse(filter));
  const std::string question = absl::StrCat("jobs ", filter);
  int64_t before = std::numeric_limits<int64_t>::max();
  if (!page_token.empty()) {
    ASSIGN_OR_RETURN(const std::string position, ReadPageToken(question, page_token));
    if (!absl::SimpleAtoi(position, &before)) return InvalidFields({{"page_token", 0, "is damaged"}});
  }
  JobPage page;
  size_t bytes = 0;
  table_.ReadDown(before, [&](const JobEntry& entry) {
    if (!wanted.Matches(entry.record.job)) return true;
    if (static_cast<int>(page.jobs.size()) == size || bytes >= kPageBytes) {
      page.next_page_token = MakePageToken(question, absl::StrCat(before));
      return false;
    }
    page.jobs.push_back(Compose(entry));
    bytes += page.jobs.back().ByteSizeLong();
    before = entry.record.sequence;
    return true;
  });
  return page;
}

absl::StatusOr<v1::Job> Registry::Cancel(const std::string& job_id, std::optional<absl::Duration> grace) {
  const absl::Duration given = grace.value_or(kDefaultGrace);
  if (given < absl::ZeroDuration() || given > kMaxGrace) {
    return InvalidFields({{"grace_period", 0, "must be from 0 to 3600 seconds"}});
  }
  return table_.Update(job_id, [&](JobChange& change) { return ApplyCancel(change, given, clock_.Now()); });
}

absl::Status Registry::Delete(const std::string& job_id, const std::string& etag) {
  RETURN_IF_ERROR(table_.Remove(job_id, [&](const JobRecord& record) {
    if (!etag.empty() && etag != record.job.etag()) {
      return MakeError(absl::StatusCode::kAborted, "ETAG_MISMATCH",
                       absl::StrCat("job ", job_id, " has changed: its etag is ", record.job.etag(), " now"));
    }
    if (!IsTerminal(record.job.state())) {
      return MakeError(absl::StatusCode::kFailedPrecondition, "JOB_NOT_TERMINAL",
                       absl::StrCat("job ", job_id, " is ", StateName(record.job.state()), "; cancel it first"));
    }
    return absl::OkStatus();
  }));
  const absl::Status removed = files_.RemoveJob(job_id);
  if (removed.ok()) return removed;
  return MakeError(removed.code(), "FILES_LEFT",
                   absl::StrCat("job ", job_id, " is deleted, but files of it are left until the coordinator starts ",
                                "again: ", std::string(removed.message())),
                   {{"job_id", job_id}});
}

absl::StatusOr<std::optional<Registry::Change>> Registry::NextChange(const std::string& job_id,
                                                                     const std::string& cursor) {
  std::optional<Change> change;
  RETURN_IF_ERROR(table_.Read(job_id, [&](const JobEntry& entry) {
    std::string now = absl::StrCat(table_.epoch(), ".", entry.version);
    if (now != cursor) change = Change{Compose(entry), std::move(now)};
  }));
  return change;
}

}  // namespace ithaca

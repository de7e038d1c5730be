#include "server/rpc/job_service.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "proto/errors.h"
#include "proto/grpc_status.h"

namespace ithaca {
namespace {

// How long a following stream waits before it looks whether its client is still there.
constexpr absl::Duration kPatience = absl::Milliseconds(200);
constexpr absl::Duration kDefaultGrace = absl::Seconds(10);
constexpr int64_t kMaxGraceSeconds = 3600;
constexpr int kMetricsPerRead = 256;

Caller CallerOf(const grpc::ServerContext& context) {
  const std::vector<grpc::string_ref> names = context.auth_context()->GetPeerIdentity();
  return Caller{names.empty() ? "" : std::string(names.front().data(), names.front().size())};
}

template <typename T>
grpc::Status Answer(absl::StatusOr<T> result, T* response) {
  if (!result.ok()) return ToGrpcStatus(result.status());
  *response = *std::move(result);
  return grpc::Status::OK;
}

grpc::Status NotOffered(const char* what) {
  return ToGrpcStatus(MakeError(absl::StatusCode::kUnimplemented, "NOT_IMPLEMENTED",
                                absl::StrCat("This version of ithacad cannot ", what, " yet.")));
}

}  // namespace

grpc::Status JobServiceImpl::CreateJob(grpc::ServerContext* context, const v1::CreateJobRequest* request,
                                       v1::Job* response) {
  const CreateOptions options{request->request_id(), request->validate_only(), request->model_config_json()};
  return Answer(registry_.Create(CallerOf(*context), request->job_spec(), options), response);
}

grpc::Status JobServiceImpl::GetJob(grpc::ServerContext*, const v1::GetJobRequest* request, v1::Job* response) {
  return Answer(registry_.Get(request->job_id()), response);
}

grpc::Status JobServiceImpl::ListJobs(grpc::ServerContext*, const v1::ListJobsRequest* request,
                                      v1::ListJobsResponse* response) {
  absl::StatusOr<JobPage> page = registry_.List(request->page_size(), request->page_token(), request->filter());
  if (!page.ok()) return ToGrpcStatus(page.status());
  for (v1::Job& job : page->jobs) *response->add_jobs() = std::move(job);
  response->set_next_page_token(page->next_page_token);
  return grpc::Status::OK;
}

grpc::Status JobServiceImpl::DeleteJob(grpc::ServerContext*, const v1::DeleteJobRequest* request,
                                       google::protobuf::Empty*) {
  return ToGrpcStatus(registry_.Delete(request->job_id(), request->etag()));
}

grpc::Status JobServiceImpl::CancelJob(grpc::ServerContext*, const v1::CancelJobRequest* request, v1::Job* response) {
  absl::Duration grace = kDefaultGrace;
  if (request->has_grace_period()) {
    const int64_t seconds = request->grace_period().seconds();
    if (seconds < 0 || request->grace_period().nanos() < 0 || seconds > kMaxGraceSeconds) {
      return ToGrpcStatus(InvalidFields({{"grace_period", 0, "must be from 0 s to 1 h"}}));
    }
    grace = absl::Seconds(seconds) + absl::Nanoseconds(request->grace_period().nanos());
  }
  return Answer(registry_.Cancel(request->job_id(), grace), response);
}

grpc::Status JobServiceImpl::EstimateJob(grpc::ServerContext*, const v1::EstimateJobRequest* request,
                                         v1::EstimateJobResponse* response) {
  return Answer(registry_.Estimate(request->job_spec(), request->model_config_json()), response->mutable_plan());
}

grpc::Status JobServiceImpl::ListEvents(grpc::ServerContext*, const v1::ListEventsRequest* request,
                                        v1::ListEventsResponse* response) {
  const absl::Time since = request->has_since() ? absl::FromUnixSeconds(request->since().seconds()) +
                                                      absl::Nanoseconds(request->since().nanos())
                                                : absl::InfinitePast();
  absl::StatusOr<EventListPage> page =
      registry_.ListEvents(request->job_id(), request->page_size(), request->page_token(), since);
  if (!page.ok()) return ToGrpcStatus(page.status());
  for (v1::Event& event : page->events) *response->add_events() = std::move(event);
  response->set_next_page_token(page->next_page_token);
  return grpc::Status::OK;
}

grpc::Status JobServiceImpl::ListCheckpoints(grpc::ServerContext*, const v1::ListCheckpointsRequest* request,
                                             v1::ListCheckpointsResponse* response) {
  absl::StatusOr<CheckpointPage> page =
      registry_.ListCheckpoints(request->job_id(), request->page_size(), request->page_token());
  if (!page.ok()) return ToGrpcStatus(page.status());
  for (v1::Checkpoint& checkpoint : page->checkpoints) *response->add_checkpoints() = std::move(checkpoint);
  response->set_next_page_token(page->next_page_token);
  return grpc::Status::OK;
}

grpc::Status JobServiceImpl::MayGoOn(const grpc::ServerContext& context) const {
  return draining_ || context.IsCancelled() ? Interrupted() : grpc::Status::OK;
}

grpc::Status JobServiceImpl::Interrupted() const {
  if (!draining_) return grpc::Status::CANCELLED;  // its client is gone
  return ToGrpcStatus(MakeError(absl::StatusCode::kUnavailable, "DRAINING",
                                "The coordinator is shutting down; training goes on. Come back with the cursor."));
}

grpc::Status JobServiceImpl::WatchJob(grpc::ServerContext* context, const v1::WatchJobRequest* request,
                                      grpc::ServerWriter<v1::WatchJobResponse>* writer) {
  std::string cursor = request->cursor();
  while (true) {
    if (grpc::Status status = MayGoOn(*context); !status.ok()) return status;
    const uint64_t seen = table_.Activity(request->job_id());
    absl::StatusOr<std::optional<Registry::Change>> change = registry_.NextChange(request->job_id(), cursor);
    if (!change.ok()) return ToGrpcStatus(change.status());
    if (change->has_value()) {
      v1::WatchJobResponse response;
      *response.mutable_job() = std::move((*change)->job);
      cursor = (*change)->cursor;
      response.set_cursor(cursor);
      if (!writer->Write(response)) return Interrupted();
      if (IsTerminal(response.job().state())) return grpc::Status::OK;
      continue;
    }
    // A cursor of the last change: nothing will follow it.
    const absl::StatusOr<v1::Job> job = table_.Get(request->job_id());
    if (job.ok() && IsTerminal(job->state()) && table_.Activity(request->job_id()) == seen) return grpc::Status::OK;
    table_.WaitForActivity(request->job_id(), seen, kPatience);
  }
}

grpc::Status JobServiceImpl::StreamLogs(grpc::ServerContext* context, const v1::StreamLogsRequest* request,
                                        grpc::ServerWriter<v1::StreamLogsResponse>* writer) {
  std::string cursor = request->cursor();
  while (true) {
    if (grpc::Status status = MayGoOn(*context); !status.ok()) return status;
    const uint64_t seen = table_.Activity(request->job_id());
    auto piece = history_.ReadLogs(*request, cursor);
    if (!piece.ok()) return ToGrpcStatus(piece.status());
    for (const v1::StreamLogsResponse& response : piece->responses) {
      if (!writer->Write(response)) return Interrupted();
    }
    cursor = piece->cursor;
    if (!piece->at_end) continue;
    if (!request->follow() || !piece->may_grow) return grpc::Status::OK;
    table_.WaitForActivity(request->job_id(), seen, kPatience);
  }
}

grpc::Status JobServiceImpl::StreamMetrics(grpc::ServerContext* context, const v1::StreamMetricsRequest* request,
                                           grpc::ServerWriter<v1::StreamMetricsResponse>* writer) {
  std::string cursor = request->cursor();
  while (true) {
    if (grpc::Status status = MayGoOn(*context); !status.ok()) return status;
    const uint64_t seen = table_.Activity(request->job_id());
    auto piece = history_.ReadMetrics(request->job_id(), cursor, kMetricsPerRead);
    if (!piece.ok()) return ToGrpcStatus(piece.status());
    for (const v1::StreamMetricsResponse& response : piece->responses) {
      if (!writer->Write(response)) return Interrupted();
    }
    cursor = piece->cursor;
    if (!piece->at_end) continue;
    if (!request->follow() || !piece->may_grow) return grpc::Status::OK;
    table_.WaitForActivity(request->job_id(), seen, kPatience);
  }
}

grpc::Status JobServiceImpl::UpdateJob(grpc::ServerContext*, const v1::UpdateJobRequest*, v1::Job*) {
  return NotOffered("change a job's labels or priority");
}

grpc::Status JobServiceImpl::PauseJob(grpc::ServerContext*, const v1::PauseJobRequest*, v1::Job*) {
  return NotOffered("pause a job");
}

grpc::Status JobServiceImpl::ResumeJob(grpc::ServerContext*, const v1::ResumeJobRequest*, v1::Job*) {
  return NotOffered("resume a job");
}

grpc::Status JobServiceImpl::CheckpointJob(grpc::ServerContext*, const v1::CheckpointJobRequest*, v1::Job*) {
  return NotOffered("ask a running job for a checkpoint");
}

}  // namespace ithaca

#include "tests/client/fake_job_service.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "proto/errors.h"
#include "proto/grpc_status.h"

namespace ithaca::client {
namespace {

// Cursors of the fake are positions in its script.
int Position(const std::string& cursor) {
  int position = 0;
  return absl::SimpleAtoi(cursor, &position) ? position : 0;
}

}  // namespace

FakeJobService::FakeJobService() {
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  address_ = absl::StrCat("127.0.0.1:", port);
}

FakeJobService::~FakeJobService() { server_->Shutdown(); }

grpc::Status FakeJobService::Find(const std::string& id, v1::Job* job) const {
  for (const v1::Job& known : jobs) {
    if (known.id() != id) continue;
    *job = known;
    return grpc::Status::OK;
  }
  return ToGrpcStatus(MakeError(absl::StatusCode::kNotFound, "JOB_NOT_FOUND", absl::StrCat("there is no job ", id)));
}

grpc::Status FakeJobService::CreateJob(grpc::ServerContext*, const v1::CreateJobRequest* request, v1::Job* job) {
  created.push_back(*request);
  if (!fail.ok()) return ToGrpcStatus(fail);
  if (!request->validate_only()) job->set_id("j-1");
  job->set_name(request->job_spec().name());
  job->set_state(v1::JOB_STATE_QUEUED);
  job->mutable_plan()->set_table("parameters  1.00 GiB\n");
  job->mutable_plan()->set_fits(true);
  return grpc::Status::OK;
}

grpc::Status FakeJobService::GetJob(grpc::ServerContext*, const v1::GetJobRequest* request, v1::Job* job) {
  return fail.ok() ? Find(request->job_id(), job) : ToGrpcStatus(fail);
}

grpc::Status FakeJobService::ListJobs(grpc::ServerContext*, const v1::ListJobsRequest* request,
                                      v1::ListJobsResponse* response) {
  filters.push_back(request->filter());
  const int begin = Position(request->page_token());
  const int end = std::min<int>(jobs.size(), begin + request->page_size());
  for (int i = begin; i < end; ++i) *response->add_jobs() = jobs[i];
  if (end < static_cast<int>(jobs.size())) response->set_next_page_token(absl::StrCat(end));
  return ToGrpcStatus(fail);
}

grpc::Status FakeJobService::CancelJob(grpc::ServerContext*, const v1::CancelJobRequest* request, v1::Job* job) {
  cancelled.push_back(*request);
  const grpc::Status status = Find(request->job_id(), job);
  job->set_state(v1::JOB_STATE_STOPPING);
  return status;
}

grpc::Status FakeJobService::DeleteJob(grpc::ServerContext*, const v1::DeleteJobRequest* request,
                                       google::protobuf::Empty*) {
  deleted.push_back(*request);
  return ToGrpcStatus(fail);
}

grpc::Status FakeJobService::WatchJob(grpc::ServerContext*, const v1::WatchJobRequest* request,
                                      grpc::ServerWriter<v1::WatchJobResponse>* writer) {
  watch_cursors.push_back(request->cursor());
  if (!fail.ok()) return ToGrpcStatus(fail);
  for (int i = Position(request->cursor()); i < static_cast<int>(watch.size()); ++i) {
    if (break_watch_after == i) {
      break_watch_after = -1;
      return ToGrpcStatus(break_with);
    }
    v1::WatchJobResponse response;
    *response.mutable_job() = watch[i];
    response.set_cursor(absl::StrCat(i + 1));
    writer->Write(response);
  }
  return grpc::Status::OK;
}

grpc::Status FakeJobService::StreamMetrics(grpc::ServerContext*, const v1::StreamMetricsRequest* request,
                                           grpc::ServerWriter<v1::StreamMetricsResponse>* writer) {
  for (int i = Position(request->cursor()); i < static_cast<int>(metrics.size()); ++i) {
    v1::StreamMetricsResponse response = metrics[i];
    response.set_cursor(absl::StrCat(i + 1));
    writer->Write(response);
  }
  return grpc::Status::OK;
}

grpc::Status FakeJobService::StreamLogs(grpc::ServerContext*, const v1::StreamLogsRequest* request,
                                        grpc::ServerWriter<v1::StreamLogsResponse>* writer) {
  logs_request = *request;
  if (break_logs-- > 0) return ToGrpcStatus(break_with);
  for (const v1::StreamLogsResponse& chunk : logs) writer->Write(chunk);
  return grpc::Status::OK;
}

grpc::Status FakeJobService::ListEvents(grpc::ServerContext*, const v1::ListEventsRequest* request,
                                        v1::ListEventsResponse* response) {
  const int at = Position(request->page_token());  // one event a page, so that paging is used
  if (at < static_cast<int>(events.size())) *response->add_events() = events[at];
  if (at + 1 < static_cast<int>(events.size())) response->set_next_page_token(absl::StrCat(at + 1));
  return grpc::Status::OK;
}

}  // namespace ithaca::client

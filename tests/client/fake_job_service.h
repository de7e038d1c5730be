#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "ithaca/v1/job_service.grpc.pb.h"

namespace ithaca::client {

// A JobService on a loopback port that answers from a script. Knobs are set before a call; requests are kept.
class FakeJobService final : public v1::JobService::Service {
 public:
  FakeJobService();
  ~FakeJobService() override;

  const std::string& address() const { return address_; }

  // Knobs.
  std::vector<v1::Job> jobs;                       // what ListJobs and GetJob know, newest first
  std::vector<v1::Job> watch;                      // what WatchJob sends
  std::vector<v1::StreamMetricsResponse> metrics;  // what StreamMetrics sends, before the cursor skipped
  std::vector<v1::StreamLogsResponse> logs;        // what StreamLogs sends
  std::vector<v1::Event> events;                   // what ListEvents knows
  absl::Status fail;                               // if not OK, every call answers this
  std::atomic<int> break_watch_after = -1;         // WatchJob breaks once after so many messages
  absl::Status break_with = absl::UnavailableError("going away");
  std::atomic<int> break_logs = 0;  // so many times, StreamLogs breaks before its first message

  // Counters.
  std::vector<v1::CreateJobRequest> created;
  std::vector<v1::CancelJobRequest> cancelled;
  std::vector<v1::DeleteJobRequest> deleted;
  std::vector<std::string> filters;
  std::vector<std::string> watch_cursors;
  v1::StreamLogsRequest logs_request;

 private:
  grpc::Status CreateJob(grpc::ServerContext*, const v1::CreateJobRequest*, v1::Job*) override;
  grpc::Status GetJob(grpc::ServerContext*, const v1::GetJobRequest*, v1::Job*) override;
  grpc::Status ListJobs(grpc::ServerContext*, const v1::ListJobsRequest*, v1::ListJobsResponse*) override;
  grpc::Status CancelJob(grpc::ServerContext*, const v1::CancelJobRequest*, v1::Job*) override;
  grpc::Status DeleteJob(grpc::ServerContext*, const v1::DeleteJobRequest*, google::protobuf::Empty*) override;
  grpc::Status WatchJob(grpc::ServerContext*, const v1::WatchJobRequest*,
                        grpc::ServerWriter<v1::WatchJobResponse>*) override;
  grpc::Status StreamMetrics(grpc::ServerContext*, const v1::StreamMetricsRequest*,
                             grpc::ServerWriter<v1::StreamMetricsResponse>*) override;
  grpc::Status StreamLogs(grpc::ServerContext*, const v1::StreamLogsRequest*,
                          grpc::ServerWriter<v1::StreamLogsResponse>*) override;
  grpc::Status ListEvents(grpc::ServerContext*, const v1::ListEventsRequest*, v1::ListEventsResponse*) override;

  grpc::Status Find(const std::string& id, v1::Job* job) const;

  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace ithaca::client

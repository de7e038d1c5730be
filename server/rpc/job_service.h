#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>

#include "ithaca/v1/job_service.grpc.pb.h"
#include "server/core/history.h"
#include "server/core/job_table.h"
#include "server/core/registry.h"

namespace ithaca {

// JobService over the core: translates the request, calls core, converts the status. Nothing is decided here. Called
// from gRPC's threads; a stream occupies one while it lasts. Owned by the RpcServer; registry, history and table
// outlive it.
class JobServiceImpl final : public v1::JobService::Service {
 public:
  JobServiceImpl(Registry& registry, History& history, JobTable& table)
      : registry_(registry), history_(history), table_(table) {}

  // Ends all streams with UNAVAILABLE within a moment; clients come back with their cursor.
  void Drain() { draining_ = true; }

  grpc::Status CreateJob(grpc::ServerContext*, const v1::CreateJobRequest*, v1::Job*) override;
  grpc::Status GetJob(grpc::ServerContext*, const v1::GetJobRequest*, v1::Job*) override;
  grpc::Status ListJobs(grpc::ServerContext*, const v1::ListJobsRequest*, v1::ListJobsResponse*) override;
  grpc::Status DeleteJob(grpc::ServerContext*, const v1::DeleteJobRequest*, google::protobuf::Empty*) override;
  grpc::Status CancelJob(grpc::ServerContext*, const v1::CancelJobRequest*, v1::Job*) override;
  grpc::Status EstimateJob(grpc::ServerContext*, const v1::EstimateJobRequest*, v1::EstimateJobResponse*) override;
  grpc::Status ListEvents(grpc::ServerContext*, const v1::ListEventsRequest*, v1::ListEventsResponse*) override;
  grpc::Status ListCheckpoints(grpc::ServerContext*, const v1::ListCheckpointsRequest*,
                               v1::ListCheckpointsResponse*) override;

  grpc::Status WatchJob(grpc::ServerContext*, const v1::WatchJobRequest*,
                        grpc::ServerWriter<v1::WatchJobResponse>*) override;
  grpc::Status StreamLogs(grpc::ServerContext*, const v1::StreamLogsRequest*,
                          grpc::ServerWriter<v1::StreamLogsResponse>*) override;
  grpc::Status StreamMetrics(grpc::ServerContext*, const v1::StreamMetricsRequest*,
                             grpc::ServerWriter<v1::StreamMetricsResponse>*) override;

  // Not offered yet: UNIMPLEMENTED with a sentence.
  grpc::Status UpdateJob(grpc::ServerContext*, const v1::UpdateJobRequest*, v1::Job*) override;
  grpc::Status PauseJob(grpc::ServerContext*, const v1::PauseJobRequest*, v1::Job*) override;
  grpc::Status ResumeJob(grpc::ServerContext*, const v1::ResumeJobRequest*, v1::Job*) override;
  grpc::Status CheckpointJob(grpc::ServerContext*, const v1::CheckpointJobRequest*, v1::Job*) override;

 private:
  // OK while a stream may go on, else why it does not.
  grpc::Status MayGoOn(const grpc::ServerContext& context) const;
  // Why a stream ends early: UNAVAILABLE while draining, whatever else has happened; CANCELLED when its client is gone.
  grpc::Status Interrupted() const;

  Registry& registry_;
  History& history_;
  JobTable& table_;
  std::atomic<bool> draining_ = false;
};

}  // namespace ithaca

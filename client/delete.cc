#include "client/verbs.h"
#include "proto/status_macros.h"

namespace ithaca::client {

absl::StatusOr<ExitCode> Delete(Client& client, const std::string& job) {
  v1::DeleteJobRequest request;
  ASSIGN_OR_RETURN(*request.mutable_job_id(), client.ResolveJobId(job));
  RETURN_IF_ERROR(client.Call(&v1::JobService::Stub::DeleteJob, request).status());
  if (client.output() == OutputFormat::kTable) client.terminal().out << "deleted " << request.job_id() << "\n";
  return ExitCode::kOk;
}

}  // namespace ithaca::client

#include <chrono>

#include "client/format.h"
#include "client/job_view.h"
#include "client/verbs.h"
#include "proto/status_macros.h"

namespace ithaca::client {

absl::StatusOr<ExitCode> Get(Client& client, const std::string& job_id) {
  v1::GetJobRequest request;
  ASSIGN_OR_RETURN(*request.mutable_job_id(), client.ResolveJobId(job_id));
  ASSIGN_OR_RETURN(const v1::Job job, client.Call(&v1::JobService::Stub::GetJob, request));
  std::ostream& out = client.terminal().out;
  if (client.output() == OutputFormat::kJson) {
    out << ToJsonText(job);
  } else if (client.output() == OutputFormat::kYaml) {
    out << ToYamlText(job);
  } else {
    const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
    out << FormatJob(job, now.count());
  }
  return ExitCode::kOk;
}

}  // namespace ithaca::client

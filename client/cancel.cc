#include "client/format.h"
#include "client/verbs.h"
#include "client/watch_view.h"
#include "proto/status_macros.h"

namespace ithaca::client {

absl::StatusOr<ExitCode> Cancel(Client& client, const CancelOptions& options) {
  v1::CancelJobRequest request;
  ASSIGN_OR_RETURN(*request.mutable_job_id(), client.ResolveJobId(options.job));
  request.mutable_grace_period()->set_seconds(options.grace_seconds);
  ASSIGN_OR_RETURN(const v1::Job job, client.Call(&v1::JobService::Stub::CancelJob, request));
  std::ostream& out = client.terminal().out;
  if (client.output() == OutputFormat::kJson) {
    out << ToJsonText(job);
  } else if (client.output() == OutputFormat::kYaml) {
    out << ToYamlText(job);
  } else {
    out << FormatStateLine(job);
  }
  return ExitCode::kOk;
}

}  // namespace ithaca::client

#include "client/format.h"
#include "client/job_view.h"
#include "client/verbs.h"
#include "proto/status_macros.h"

namespace ithaca::client {

absl::StatusOr<ExitCode> Metrics(Client& client, const MetricsOptions& options) {
  v1::StreamMetricsRequest request;
  ASSIGN_OR_RETURN(*request.mutable_job_id(), client.ResolveJobId(options.job));
  request.set_follow(options.follow);
  std::ostream& out = client.terminal().out;
  bool first = true;
  const auto print = [&](const v1::StreamMetricsResponse& metrics) {
    if (client.output() == OutputFormat::kJson) {
      out << ToJsonLine(metrics);
    } else if (client.output() == OutputFormat::kYaml) {
      out << "---\n" << ToYamlText(metrics);
    } else {
      out << (first ? FormatMetricsHeader() : "") << FormatMetricsRow(metrics);
    }
    out << std::flush;
    first = false;
  };
  RETURN_IF_ERROR(client.Follow(&v1::JobService::Stub::StreamMetrics, request, print));
  if (first) client.terminal().err << "the job has done no step yet\n";
  return ExitCode::kOk;
}

}  // namespace ithaca::client

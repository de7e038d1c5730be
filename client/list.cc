#include <chrono>

#include "client/format.h"
#include "client/job_view.h"
#include "client/verbs.h"
#include "proto/status_macros.h"

namespace ithaca::client {

absl::StatusOr<ExitCode> List(Client& client, const ListOptions& options) {
  constexpr int kPage = 200;
  v1::ListJobsResponse all;
  v1::ListJobsRequest request;
  request.set_filter(options.filter);
  do {
    const int wanted = options.limit == 0 ? kPage : std::min(kPage, options.limit - all.jobs_size());
    request.set_page_size(wanted);
    ASSIGN_OR_RETURN(const v1::ListJobsResponse page, client.Call(&v1::JobService::Stub::ListJobs, request));
    all.mutable_jobs()->MergeFrom(page.jobs());
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty() && (options.limit == 0 || all.jobs_size() < options.limit));

  std::ostream& out = client.terminal().out;
  if (client.output() == OutputFormat::kJson) {
    out << ToJsonText(all);
  } else if (client.output() == OutputFormat::kYaml) {
    out << ToYamlText(all);
  } else if (all.jobs().empty()) {
    out << (options.filter.empty() ? "no jobs yet; submit one with: ithaca submit job.yaml\n" : "no job matches\n");
  } else {
    const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
    out << FormatJobList({all.jobs().begin(), all.jobs().end()}, now.count(), client.terminal().columns);
    if (!request.page_token().empty()) client.terminal().err << "there are more; see --limit\n";
  }
  return ExitCode::kOk;
}

}  // namespace ithaca::client

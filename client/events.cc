#include "client/format.h"
#include "client/job_view.h"
#include "client/verbs.h"
#include "proto/status_macros.h"

namespace ithaca::client {

absl::StatusOr<ExitCode> Events(Client& client, const std::string& job) {
  v1::ListEventsRequest request;
  ASSIGN_OR_RETURN(*request.mutable_job_id(), client.ResolveJobId(job));
  request.set_page_size(1000);
  v1::ListEventsResponse all;
  do {
    ASSIGN_OR_RETURN(const v1::ListEventsResponse page, client.Call(&v1::JobService::Stub::ListEvents, request));
    all.mutable_events()->MergeFrom(page.events());
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  std::ostream& out = client.terminal().out;
  if (client.output() == OutputFormat::kJson) {
    out << ToJsonText(all);
  } else if (client.output() == OutputFormat::kYaml) {
    out << ToYamlText(all);
  } else {
    out << FormatEvents({all.events().begin(), all.events().end()}, client.terminal().columns);
  }
  return ExitCode::kOk;
}

}  // namespace ithaca::client

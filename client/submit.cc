#include <iostream>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/format.h"
#include "client/job_source.h"
#include "client/verbs.h"
#include "proto/status_macros.h"

namespace ithaca::client {
namespace {

// 128 random bits: what makes a repeated submission the same one.
std::string MakeRequestId() {
  std::random_device random;
  return absl::StrFormat("%08x%08x%08x%08x", random(), random(), random(), random());
}

ExitCode PrintDryRun(Client& client, const v1::Job& job) {
  std::ostream& out = client.terminal().out;
  if (client.output() == OutputFormat::kJson) {
    out << ToJsonText(job);
  } else if (client.output() == OutputFormat::kYaml) {
    out << ToYamlText(job);
  } else {
    out << job.plan().table()
        << (job.plan().unchecked() ? "memory was not checked: the model's config.json cannot be read here\n" : "")
        << "The job is valid" << (job.plan().fits() ? "" : " but does not fit") << ". Nothing was submitted.\n";
  }
  return job.plan().fits() || job.plan().unchecked() ? ExitCode::kOk : ExitCode::kDoesNotFit;
}

}  // namespace

absl::StatusOr<ExitCode> Submit(Client& client, const SubmitOptions& options) {
  ASSIGN_OR_RETURN(LoadedJob loaded, LoadJob(options.source, std::cin));
  v1::CreateJobRequest request;
  *request.mutable_job_spec() = std::move(loaded.spec);
  request.set_model_config_json(loaded.model_config_json);
  request.set_validate_only(options.dry_run);
  request.set_request_id(options.request_id.empty() ? MakeRequestId() : options.request_id);
  ASSIGN_OR_RETURN(const v1::Job job, client.Call(&v1::JobService::Stub::CreateJob, request));
  if (options.dry_run) return PrintDryRun(client, job);

  std::ostream& out = client.terminal().out;
  if (client.output() == OutputFormat::kJson) {
    out << (options.watch ? ToJsonLine(job) : ToJsonText(job)) << std::flush;
  } else if (client.output() == OutputFormat::kYaml) {
    out << ToYamlText(job) << std::flush;
  } else {
    out << "submitted " << job.name() << " as " << job.id() << "\n";
    if (!options.watch) out << "follow it with: ithaca watch " << job.id() << "\n";
    out << std::flush;
  }
  return options.watch ? Watch(client, job.id()) : ExitCode::kOk;
}

}  // namespace ithaca::client

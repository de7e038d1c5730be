#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/client.h"
#include "client/exit_code.h"

// One function per verb of `ithaca`, each in the file of its name. Each writes its result to the client's terminal and
// returns the exit code; a status that is not OK is printed by the caller.
namespace ithaca::client {

// A job file with changes from the command line.
struct JobSource {
  std::string path;                    // "-": standard input
  std::vector<std::string> overrides;  // key=value
};

struct SubmitOptions {
  JobSource source;
  bool dry_run = false;
  bool watch = false;
  std::string request_id;  // empty: made up
};
absl::StatusOr<ExitCode> Submit(Client& client, const SubmitOptions& options);

// The machine an offline estimate is for. Empty or 0: the job's, or this host's.
struct EstimateOptions {
  JobSource source;
  std::string gpu;              // "h100-80gb"; empty: CPU, unless the job says cuda
  std::string memory_per_slot;  // "80GiB"; empty: the GPU's, or this host's memory divided by the slots
  int slots = 0;                // 0: what the job asks for, else 1
};
absl::StatusOr<ExitCode> Estimate(const EstimateOptions& options, OutputFormat output, Terminal& terminal);

struct ListOptions {
  std::string filter;
  int limit = 50;  // 0: all
};
absl::StatusOr<ExitCode> List(Client& client, const ListOptions& options);

absl::StatusOr<ExitCode> Get(Client& client, const std::string& job);

absl::StatusOr<ExitCode> Watch(Client& client, const std::string& job);

struct LogsOptions {
  std::string job;
  int attempt = 0;  // 0: the newest
  std::vector<int> ranks;
  bool follow = false;
};
absl::StatusOr<ExitCode> Logs(Client& client, const LogsOptions& options);

absl::StatusOr<ExitCode> Events(Client& client, const std::string& job);

struct MetricsOptions {
  std::string job;
  bool follow = false;
};
absl::StatusOr<ExitCode> Metrics(Client& client, const MetricsOptions& options);

struct CancelOptions {
  std::string job;
  int64_t grace_seconds = 10;
};
absl::StatusOr<ExitCode> Cancel(Client& client, const CancelOptions& options);

absl::StatusOr<ExitCode> Delete(Client& client, const std::string& job);

}  // namespace ithaca::client

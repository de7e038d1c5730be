#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "server/core/records.h"

namespace ithaca {

// What one worker is started with.
struct LaunchRequest {
  std::string job_id;
  int attempt = 0;
  std::string token;                // of this attempt; travels in a file or a secret, never on a command line
  int node_index = 0;               // which node of the placement
  NodePlacement node;               // host and devices
  std::filesystem::path directory;  // of the attempt: <state>/jobs/<id>/attempts/<n>; exists
};

// What a launcher knows of a worker and everything it started.
struct WorkerStatus {
  enum class Life {
    kRunning,  // the worker, or an engine of it, is there
    kGone,     // the worker and all its engines are gone
    kUnknown,  // cannot tell now (an API server does not answer); ask again
  };
  Life life = Life::kUnknown;
  std::string
      detail;  // kGone: how the worker ended, for people: "exited with code 1", "killed by signal 9"; else empty
};

// Starts, watches and ends worker processes on behalf of the reconciler. Implementations live in server/launcher.
// Called by one thread at a time, may block briefly; outlives the reconciler. What it starts outlives this process: a
// WorkerProcess from the store, made by an earlier coordinator, is as good as one made by this.
class Launcher {
 public:
  virtual ~Launcher() = default;

  // Starts a worker and returns its identity. An error means that nothing was left running.
  virtual absl::StatusOr<WorkerProcess> Start(const LaunchRequest& request) = 0;

  // The worker that an earlier coordinator started for this request without having stored its identity, if any.
  virtual absl::StatusOr<std::optional<WorkerProcess>> Find(const LaunchRequest& request) = 0;

  virtual WorkerStatus Check(const WorkerProcess& process) = 0;

  // Asks the worker to end its engines and itself (SIGTERM). Idempotent; a process that is gone is no error.
  virtual absl::Status Terminate(const WorkerProcess& process) = 0;

  // Ends the worker and all its engines at once (SIGKILL). Idempotent; a process that is gone is no error.
  virtual absl::Status Kill(const WorkerProcess& process) = 0;
};

}  // namespace ithaca

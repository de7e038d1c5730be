#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "absl/synchronization/mutex.h"
#include "server/core/launcher.h"
#include "server/launcher/local/process_identity.h"
#include "server/launcher/local/process_watcher.h"

namespace ithaca {

// Runs workers as processes of this machine, each in a session of its own, so that they live on when the coordinator
// ends and everything they start can be found. A worker is recognised by its pid and start time, or, where these were
// not stored, by the path of its token file on its command line. Owned by main, used by the reconciler's thread; has a
// thread that watches for ends.
class LocalLauncher : public Launcher {
 public:
  struct Options {
    std::filesystem::path worker_path;  // ithaca-worker
    std::filesystem::path engine_path;  // ithaca-engine
    std::string coordinator;            // gRPC target that workers dial
    std::string host;                   // name of this machine
    std::string tls_ca_path;            // what workers trust; empty: no TLS
  };

  // `on_end` is called when a process that was started or checked here has ended, from the watcher's thread.
  LocalLauncher(Options options, std::function<void()> on_end);

  absl::StatusOr<WorkerProcess> Start(const LaunchRequest& request) override;
  absl::StatusOr<std::optional<WorkerProcess>> Find(const LaunchRequest& request) override;
  WorkerStatus Check(const WorkerProcess& process) override;
  absl::Status Terminate(const WorkerProcess& process) override;
  absl::Status Kill(const WorkerProcess& process) override;

 private:
  WorkerProcess ToWorker(const ProcessIdentity& process) const;
  // Waits for a child that has ended, so that it does not stay a zombie, and remembers how it ended.
  void Reap(pid_t pid);

  const Options options_;
  absl::Mutex mutex_;
  std::map<pid_t, std::string> ends_ ABSL_GUARDED_BY(mutex_);  // of children, for people
  ProcessWatcher watcher_;                                     // last: its thread uses what is above
};

}  // namespace ithaca

#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "server/core/clock.h"
#include "server/core/history.h"
#include "server/core/job_table.h"
#include "server/core/launcher.h"
#include "server/core/reconciler.h"
#include "server/core/registry.h"
#include "server/core/worker_hub.h"
#include "server/store/disk_attempt_files.h"

namespace ithaca {

// A directory that is removed with the object.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

class FakeClock : public Clock {
 public:
  absl::Time Now() const override { return now_; }
  void Advance(absl::Duration duration) { now_ += duration; }

 private:
  absl::Time now_ = absl::FromUnixSeconds(1'700'000'000);
};

// Processes that exist only as numbers.
class FakeLauncher : public Launcher {
 public:
  absl::StatusOr<WorkerProcess> Start(const LaunchRequest& request) override;
  absl::StatusOr<std::optional<WorkerProcess>> Find(const LaunchRequest& request) override;
  WorkerStatus Check(const WorkerProcess& process) override;
  absl::Status Terminate(const WorkerProcess& process) override;
  absl::Status Kill(const WorkerProcess& process) override;

  void Die(int64_t pid) { alive_.erase(pid); }

  absl::Status fail_start;            // Start fails with it while it is not OK
  std::function<void()> after_start;  // called when Start has started something
  bool survive_kill = false;          // Kill does nothing
  std::vector<LaunchRequest> started;
  std::vector<int64_t> terminated;
  std::vector<int64_t> killed;

 private:
  std::set<int64_t> alive_;
  std::map<std::pair<std::string, int>, WorkerProcess> by_attempt_;
  int64_t next_pid_ = 1000;
};

class FakeLink : public WorkerLink {
 public:
  void Send(const v1::CoordinatorMessage& message) override { messages.push_back(message); }
  // The newest message of a kind, if there was one.
  std::optional<v1::CoordinatorMessage> Last(v1::CoordinatorMessage::MessageCase kind) const;

  std::vector<v1::CoordinatorMessage> messages;
};

// A valid job for `ranks` CPU slots.
v1::JobSpec SpecFor(int ranks, const std::string& name = "job");

// All of server/core on a store, with a clock, a launcher and workers that the test plays.
class Service {
 public:
  Service(Store& store, std::filesystem::path root, FakeClock& clock, FakeLauncher& launcher, int cpu_slots = 2);

  // Ticks until nothing more happens.
  void Settle();
  v1::Job Create(const v1::JobSpec& spec, const std::string& request_id = "");
  v1::Job Get(const std::string& job_id);

  // Plays the worker of the newest attempt: attaches on a new link.
  std::shared_ptr<FakeLink> Attach(const std::string& job_id);
  // As that worker, on its newest stream.
  absl::Status Say(const std::string& job_id, const v1::WorkerMessage& message);
  absl::Status Report(const std::string& job_id, int rank, const std::string& json);  // at the next offset
  void AllReady(const std::string& job_id);
  void Exit(const std::string& job_id, int rank, int code, int signal = 0, const std::string& failed_json = "");
  void Done(const std::string& job_id);
  // Ready, exit code 0 of every rank, done.
  void Succeed(const std::string& job_id);
  v1::Hello HelloOf(const std::string& job_id);
  WorkerHub::Session session(const std::string& job_id) const { return sessions_.at(job_id); }

  FakeClock& clock;
  FakeLauncher& launcher;
  DiskAttemptFiles files;
  JobTable table;
  Registry registry;
  WorkerHub hub;
  History history;
  Reconciler reconciler;

 private:
  int RanksOf(const std::string& job_id);

  std::map<std::string, WorkerHub::Session> sessions_;
};

}  // namespace ithaca

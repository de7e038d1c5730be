#include "tests/server/core/service_fixture.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "server/core/job_edit.h"

namespace ithaca {

TemporaryDirectory::TemporaryDirectory() {
  std::string name = (std::filesystem::temp_directory_path() / "ithaca-test-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) std::abort();
  path_ = name;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

absl::StatusOr<WorkerProcess> FakeLauncher::Start(const LaunchRequest& request) {
  if (!fail_start.ok()) return fail_start;
  started.push_back(request);
  const WorkerProcess process{request.node.node, ++next_pid_, static_cast<uint64_t>(next_pid_) * 10, ""};
  alive_.insert(process.pid);
  by_attempt_[{request.job_id, request.attempt}] = process;
  if (after_start) after_start();
  return process;
}

absl::StatusOr<std::optional<WorkerProcess>> FakeLauncher::Find(const LaunchRequest& request) {
  const auto found = by_attempt_.find({request.job_id, request.attempt});
  if (found == by_attempt_.end() || !alive_.contains(found->second.pid)) return std::nullopt;
  return found->second;
}

WorkerStatus FakeLauncher::Check(const WorkerProcess& process) {
  if (alive_.contains(process.pid)) return {WorkerStatus::Life::kRunning, ""};
  return {WorkerStatus::Life::kGone, "was ended by the test"};
}

absl::Status FakeLauncher::Terminate(const WorkerProcess& process) {
  terminated.push_back(process.pid);
  return absl::OkStatus();
}

absl::Status FakeLauncher::Kill(const WorkerProcess& process) {
  killed.push_back(process.pid);
  if (!survive_kill) alive_.erase(process.pid);
  return absl::OkStatus();
}

std::optional<v1::CoordinatorMessage> FakeLink::Last(v1::CoordinatorMessage::MessageCase kind) const {
  for (auto message = messages.rbegin(); message != messages.rend(); ++message) {
    if (message->message_case() == kind) return *message;
  }
  return std::nullopt;
}

v1::JobSpec SpecFor(int ranks, const std::string& name) {
  v1::JobSpec spec;
  spec.set_name(name);
  spec.mutable_model()->set_path("/models/tiny");
  spec.mutable_data()->add_train()->set_path("/data/book.txt");
  spec.mutable_data()->set_sequence_length(128);
  spec.mutable_parallelism()->set_sequence(ranks);
  spec.mutable_training()->set_steps(10);
  return spec;
}

Service::Service(Store& store, std::filesystem::path root, FakeClock& clock, FakeLauncher& launcher, int cpu_slots)
    : clock(clock),
      launcher(launcher),
      files(std::move(root)),
      table(store, files, clock, {Node{"n1", {DevicePool{v1::DEVICE_KIND_CPU, "cpu", cpu_slots, 0, 0, 3}}}}),
      registry(table, files, clock),
      hub(table, files, clock),
      history(table, files),
      reconciler(table, files, launcher, clock, {}) {
  const absl::Status recovered = table.Recover();
  EXPECT_TRUE(recovered.ok()) << recovered;
}

void Service::Settle() {
  for (int i = 0; i < 20; ++i) reconciler.Tick();
}

v1::Job Service::Create(const v1::JobSpec& spec, const std::string& request_id) {
  const absl::StatusOr<v1::Job> job = registry.Create({}, spec, {request_id, false, ""});
  EXPECT_TRUE(job.ok()) << job.status();
  return job.ok() ? *job : v1::Job();
}

v1::Job Service::Get(const std::string& job_id) {
  const absl::StatusOr<v1::Job> job = registry.Get(job_id);
  EXPECT_TRUE(job.ok()) << job.status();
  return job.ok() ? *job : v1::Job();
}

v1::Hello Service::HelloOf(const std::string& job_id) {
  v1::Hello hello;
  const absl::Status status = table.Read(job_id, [&](const JobEntry& entry) {
    const AttemptRecord& attempt = *entry.newest();
    hello.set_job_id(job_id);
    hello.set_attempt(attempt.number);
    hello.set_token(attempt.token);
    hello.set_host(attempt.workers[0].host);
    hello.set_pid(static_cast<int>(attempt.workers[0].pid));
    hello.set_pid_start_time(attempt.workers[0].pid_start_time);
  });
  EXPECT_TRUE(status.ok()) << status;
  return hello;
}

std::shared_ptr<FakeLink> Service::Attach(const std::string& job_id) {
  auto link = std::make_shared<FakeLink>();
  const absl::StatusOr<WorkerHub::Session> session = hub.Attach(HelloOf(job_id), link);
  EXPECT_TRUE(session.ok()) << session.status();
  if (session.ok()) sessions_[job_id] = *session;
  return link;
}

absl::Status Service::Say(const std::string& job_id, const v1::WorkerMessage& message) {
  return hub.Handle(sessions_.at(job_id), message);
}

absl::Status Service::Report(const std::string& job_id, int rank, const std::string& json) {
  const auto positions = files.Positions(sessions_.at(job_id).attempt);
  EXPECT_TRUE(positions.ok()) << positions.status();
  const auto position = positions->find(rank);
  v1::WorkerMessage message;
  v1::EngineEvent& event = *message.mutable_batch()->add_events();
  event.set_rank(rank);
  event.set_offset(position == positions->end() ? 0 : position->second.event_offset);
  event.set_json(json);
  return Say(job_id, message);
}

int Service::RanksOf(const std::string& job_id) {
  int ranks = 0;
  const absl::Status status = table.Read(job_id, [&](const JobEntry& entry) { ranks = entry.record.demand.slots(); });
  EXPECT_TRUE(status.ok()) << status;
  return ranks;
}

void Service::AllReady(const std::string& job_id) {
  for (int rank = 0; rank < RanksOf(job_id); ++rank) {
    const absl::Status status = Report(job_id, rank, absl::StrCat(R"({"event":"ready","time":1.5,"rank":)", rank, "}"));
    EXPECT_TRUE(status.ok()) << status;
  }
}

void Service::Exit(const std::string& job_id, int rank, int code, int signal, const std::string& failed_json) {
  v1::WorkerMessage message;
  v1::EngineExit& exit = *message.mutable_engine_exit();
  exit.set_rank(rank);
  exit.set_pid(5000 + rank);
  exit.set_exit_code(code);
  exit.set_signal(signal);
  exit.set_failed_json(failed_json);
  *exit.mutable_time() = ToProtoTime(clock.Now());
  const absl::Status status = Say(job_id, message);
  EXPECT_TRUE(status.ok()) << status;
}

void Service::Done(const std::string& job_id) {
  v1::WorkerMessage message;
  message.mutable_done();
  const absl::Status status = Say(job_id, message);
  EXPECT_TRUE(status.ok()) << status;
}

void Service::Succeed(const std::string& job_id) {
  AllReady(job_id);
  Settle();
  for (int rank = 0; rank < RanksOf(job_id); ++rank) Exit(job_id, rank, 0);
  Done(job_id);
  Settle();
}

}  // namespace ithaca

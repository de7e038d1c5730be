#include "tests/cluster/mini_cluster.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/core/job_state.h"
#include "server/launcher/local/process_identity.h"
#include "tests/fakes/wait_for.h"

namespace ithaca::cluster {
namespace {

namespace fs = std::filesystem;
using fakes::WaitFor;

std::string ReadFile(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// The value of `key=` in the line that says where ithacad listens; empty until it is there.
std::string Announced(const std::string& log, const std::string& key) {
  const size_t line = log.find("ithacad listening ");
  if (line == std::string::npos || log.find('\n', line) == std::string::npos) return "";
  const size_t start = log.find(key + "=", line) + key.size() + 1;
  return log.substr(start, log.find_first_of(" \n", start) - start);
}

std::unique_ptr<grpc::ClientContext> Context() {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(60)));
  context->set_wait_for_ready(true);
  return context;
}

}  // namespace

MiniCluster::MiniCluster(Options options) : options_(std::move(options)) { Start(); }

MiniCluster::~MiniCluster() {
  Kill();
  for (const char* program : {"ithaca-worker", "fake-engine", "ithaca-engine"}) {
    for (const pid_t pid : Processes(program)) ::kill(pid, SIGKILL);
  }
  if (::testing::Test::HasFailure()) {
    constexpr size_t kLastBytes = 4096;
    for (int i = 1; i <= starts_; ++i) {
      const std::string log = ReadFile(path(absl::StrCat("ithacad-", i, ".log")));
      std::cerr << log.substr(log.size() > kLastBytes ? log.size() - kLastBytes : 0);
    }
  }
}

void MiniCluster::Start() {
  const std::string log = path(absl::StrCat("ithacad-", ++starts_, ".log"));
  std::vector<std::string> arguments = {ITHACAD,         "--state-dir", path("state"),
                                        "--listen",      grpc_address_, "--http",
                                        http_address_,   "--cpu-slots", absl::StrCat(options_.cpu_slots),
                                        "--worker-path", ITHACA_WORKER, "--engine-path",
                                        options_.engine};
  arguments.insert(arguments.end(), options_.flags.begin(), options_.flags.end());
  const auto process = StartDetached(arguments, log);
  ASSERT_TRUE(process.ok()) << process.status();
  pid_ = process->pid;
  ASSERT_TRUE(
      WaitFor([&] { return !Announced(ReadFile(log), "http").empty() || ::waitpid(pid_, nullptr, WNOHANG) != 0; }));
  ASSERT_NE(Announced(ReadFile(log), "http"), "") << ReadFile(log);
  grpc_address_ = Announced(ReadFile(log), "grpc");
  http_address_ = Announced(ReadFile(log), "http");
  grpc::ChannelArguments channel;
  channel.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 100);
  channel.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  stub_ = v1::JobService::NewStub(grpc::CreateCustomChannel(grpc_address_, options_.credentials, channel));
}

int MiniCluster::Terminate() {
  int status = 0;
  ::kill(pid_, SIGTERM);
  EXPECT_TRUE(WaitFor([&] { return ::waitpid(pid_, &status, WNOHANG) == pid_; }));
  pid_ = 0;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void MiniCluster::Kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = 0;
}

Ended MiniCluster::RunToEnd(std::vector<std::string> flags, const std::string& state_directory) {
  const std::string log = path(absl::StrCat("other-", ++starts_, ".log"));
  std::vector<std::string> arguments = {
      ITHACAD,         "--state-dir", state_directory.empty() ? path("state") : state_directory,
      "--worker-path", ITHACA_WORKER, "--engine-path",
      options_.engine};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  const auto process = StartDetached(arguments, log);
  EXPECT_TRUE(process.ok());
  int status = 0;
  const bool ended = WaitFor([&] { return ::waitpid(process->pid, &status, WNOHANG) == process->pid; });
  EXPECT_TRUE(ended) << "it should have refused to start";
  if (!ended) ::kill(process->pid, SIGKILL);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, ReadFile(log)};
}

v1::JobSpec MiniCluster::FakeJob(const std::string& name, int ranks, int steps, const nlohmann::json& script) {
  fs::create_directories(path(name));
  std::ofstream(path(name) + "/fake_engine.json") << (script.is_null() ? nlohmann::json::object() : script).dump();
  v1::JobSpec spec;
  spec.set_name(name);
  spec.mutable_model()->set_path(path(name));
  spec.mutable_data()->add_train()->set_path(path("documents.txt"));
  spec.mutable_data()->set_sequence_length(4096);
  spec.mutable_parallelism()->set_sequence(ranks);
  spec.mutable_training()->set_steps(steps);
  spec.mutable_restart()->set_backoff_seconds(0);
  return spec;
}

std::string MiniCluster::Submit(const v1::JobSpec& spec) {
  v1::CreateJobRequest request;
  *request.mutable_job_spec() = spec;
  v1::Job job;
  const grpc::Status status = stub_->CreateJob(Context().get(), request, &job);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return job.id();
}

v1::Job MiniCluster::Get(const std::string& id) {
  v1::GetJobRequest request;
  request.set_job_id(id);
  v1::Job job;
  const grpc::Status status = stub_->GetJob(Context().get(), request, &job);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return job;
}

grpc::Status MiniCluster::Cancel(const std::string& id, std::optional<int> grace_seconds) {
  v1::CancelJobRequest request;
  request.set_job_id(id);
  if (grace_seconds) request.mutable_grace_period()->set_seconds(*grace_seconds);
  v1::Job job;
  return stub_->CancelJob(Context().get(), request, &job);
}

bool MiniCluster::WaitForState(const std::string& id, v1::JobState state) {
  v1::Job job;
  const bool settled = WaitFor([&] {
    job = Get(id);
    return job.state() == state || IsTerminal(job.state());
  });
  if (job.state() == state) return true;
  ADD_FAILURE() << (settled ? "the job ended as " : "the job stays ") << StateName(job.state()) << ": "
                << job.message();
  return false;
}

std::vector<int64_t> MiniCluster::Steps(const std::string& id) {
  v1::StreamMetricsRequest request;
  request.set_job_id(id);
  const auto context = Context();
  const auto stream = stub_->StreamMetrics(context.get(), request);
  std::vector<int64_t> steps;
  for (v1::StreamMetricsResponse response; stream->Read(&response);) {
    if (response.has_step()) steps.push_back(response.step().step());
  }
  const grpc::Status status = stream->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  return steps;
}

std::vector<v1::JobState> MiniCluster::States(const std::string& id) {
  v1::ListEventsRequest request;
  request.set_job_id(id);
  request.set_page_size(1000);
  v1::ListEventsResponse response;
  const grpc::Status status = stub_->ListEvents(Context().get(), request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  std::vector<v1::JobState> states;
  for (const v1::Event& event : response.events()) {
    if (event.kind() == "state") states.push_back(event.state());
  }
  return states;
}

std::string MiniCluster::Fetch(const std::string& page) {
  const std::vector<std::string> parts = absl::StrSplit(http_address_, ':');
  sockaddr_in address{};
  address.sin_family = AF_INET;
  ::inet_pton(AF_INET, parts[0].c_str(), &address.sin_addr);
  address.sin_port = htons(static_cast<uint16_t>(std::stoi(parts[1])));
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  const std::string request = absl::StrCat("GET ", page, " HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(::write(fd, request.data(), request.size()), static_cast<ssize_t>(request.size()));
  std::string answer;
  char bytes[65536];
  for (ssize_t n; (n = ::read(fd, bytes, sizeof bytes)) > 0;) answer.append(bytes, static_cast<size_t>(n));
  ::close(fd);
  EXPECT_EQ(answer.substr(0, 12), "HTTP/1.1 200");
  return answer.substr(answer.find("\r\n\r\n") + 4);
}

std::vector<pid_t> MiniCluster::Processes(const std::string& program) const {
  std::vector<pid_t> found;
  for (const pid_t pid : AllProcesses()) {
    const std::string command = ReadFile(absl::StrCat("/proc/", pid, "/cmdline"));
    const std::string name = fs::path(command.substr(0, command.find('\0'))).filename();
    if (name == program && command.find(directory_.path()) != std::string::npos) found.push_back(pid);
  }
  return found;
}

std::optional<pid_t> MiniCluster::WorkerOf(const std::string& job_id) const {
  for (const pid_t pid : Processes("ithaca-worker")) {
    if (ReadFile(absl::StrCat("/proc/", pid, "/cmdline")).find(job_id) != std::string::npos) return pid;
  }
  return std::nullopt;
}

}  // namespace ithaca::cluster

#include "server/launcher/local/local_launcher.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/status_macros.h"

namespace ithaca {
namespace {

namespace fs = std::filesystem;

ProcessIdentity ToIdentity(const WorkerProcess& process) {
  return {static_cast<pid_t>(process.pid), process.pid_start_time};
}

fs::path TokenPath(const LaunchRequest& request) {
  return request.directory / absl::StrCat("worker-", request.node_index, ".token");
}

// The worker's own folder in the attempt's.
fs::path WorkPath(const LaunchRequest& request) {
  return request.directory / absl::StrCat("worker-", request.node_index);
}

absl::Status WriteSecret(const fs::path& path, const std::string& secret) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return absl::UnavailableError(absl::StrCat("Cannot write ", path.string(), ": ", strerror(errno), "."));
  const bool written = ::write(fd, secret.data(), secret.size()) == static_cast<ssize_t>(secret.size());
  ::close(fd);
  return written ? absl::OkStatus() : absl::ResourceExhaustedError(absl::StrCat("Cannot write ", path.string(), "."));
}

std::vector<std::string> CommandLine(pid_t pid) {
  std::stringstream text;
  text << std::ifstream(absl::StrCat("/proc/", pid, "/cmdline")).rdbuf();
  return absl::StrSplit(text.str(), '\0');
}

std::string DescribeEnd(int status) {
  if (WIFSIGNALED(status)) {
    return absl::StrCat("killed by signal ", WTERMSIG(status), " (", strsignal(WTERMSIG(status)), ")");
  }
  return absl::StrCat("exited with code ", WEXITSTATUS(status));
}

}  // namespace

LocalLauncher::LocalLauncher(Options options, std::function<void()> on_end)
    : options_(std::move(options)), watcher_([this, on_end = std::move(on_end)](pid_t pid) {
        Reap(pid);
        on_end();
      }) {}

WorkerProcess LocalLauncher::ToWorker(const ProcessIdentity& process) const {
  return WorkerProcess{options_.host, process.pid, process.start_ticks, ""};
}

absl::StatusOr<WorkerProcess> LocalLauncher::Start(const LaunchRequest& request) {
  std::error_code error;
  fs::create_directories(WorkPath(request), error);
  if (error) {
    return absl::UnavailableError(absl::StrCat("Cannot make ", WorkPath(request).string(), ": ", error.message(), "."));
  }
  RETURN_IF_ERROR(WriteSecret(TokenPath(request), request.token));
  std::vector<std::string> arguments = {options_.worker_path,
                                        "--coordinator",
                                        options_.coordinator,
                                        "--job",
                                        request.job_id,
                                        "--attempt",
                                        absl::StrCat(request.attempt),
                                        "--token-file",
                                        TokenPath(request),
                                        "--engine",
                                        options_.engine_path,
                                        "--work-dir",
                                        WorkPath(request),
                                        "--host",
                                        options_.host};
  if (!options_.tls_ca_path.empty()) {
    arguments.push_back("--tls-ca");
    arguments.push_back(options_.tls_ca_path);
  }
  ASSIGN_OR_RETURN(const ProcessIdentity process, StartDetached(arguments, WorkPath(request) / "worker.log"));
  watcher_.Watch(process);
  return ToWorker(process);
}

absl::StatusOr<std::optional<WorkerProcess>> LocalLauncher::Find(const LaunchRequest& request) {
  const std::string token_path = TokenPath(request);
  for (const pid_t pid : AllProcesses()) {
    const std::vector<std::string> arguments = CommandLine(pid);
    if (std::find(arguments.begin(), arguments.end(), token_path) == arguments.end()) continue;
    const absl::StatusOr<ProcessFacts> process = ReadProcess(pid);
    // A child that a worker is just starting has its command line, too, but does not lead a session.
    if (!process.ok() || process->ended || process->session != pid) continue;
    watcher_.Watch(process->identity);
    return ToWorker(process->identity);
  }
  return std::nullopt;
}

void LocalLauncher::Reap(pid_t pid) {
  absl::MutexLock lock(&mutex_);
  int status = 0;
  if (::waitpid(pid, &status, WNOHANG) == pid) ends_[pid] = DescribeEnd(status);
}

WorkerStatus LocalLauncher::Check(const WorkerProcess& worker) {
  const ProcessIdentity process = ToIdentity(worker);
  if (IsRunning(process)) {
    watcher_.Watch(process);
    return {WorkerStatus::Life::kRunning, ""};
  }
  Reap(process.pid);
  const std::vector<ProcessIdentity> left = RunningInSession(process);
  for (const ProcessIdentity& engine : left) watcher_.Watch(engine);
  if (!left.empty()) return {WorkerStatus::Life::kRunning, ""};
  absl::MutexLock lock(&mutex_);
  const auto end = ends_.find(process.pid);
  return {WorkerStatus::Life::kGone,
          end == ends_.end() ? "ended while it was no child of this coordinator" : end->second};
}

absl::Status LocalLauncher::Terminate(const WorkerProcess& worker) {
  SignalProcess(ToIdentity(worker), SIGTERM);
  return absl::OkStatus();
}

absl::Status LocalLauncher::Kill(const WorkerProcess& worker) {
  // A process may start another between the look and the signal, but not after the signal: look until there is none
  // new.
  std::set<pid_t> told;
  for (bool found = true; found;) {
    found = false;
    for (const ProcessIdentity& member : RunningInSession(ToIdentity(worker))) {
      SignalProcess(member, SIGKILL);
      found |= told.insert(member.pid).second;
    }
  }
  return absl::OkStatus();
}

}  // namespace ithaca

#include "server/launcher/local/process_identity.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/status_macros.h"

extern char** environ;

namespace ithaca {

absl::StatusOr<ProcessFacts> ReadProcess(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::stringstream text;
  text << file.rdbuf();
  const std::string stat = text.str();
  // The second field is the program's name in parentheses and may hold anything; the rest starts after the last one.
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return absl::NotFoundError(absl::StrCat("There is no process ", pid, "."));
  const std::vector<std::string> fields = absl::StrSplit(stat.substr(name_end + 1), ' ', absl::SkipEmpty());
  constexpr size_t kState = 0, kSession = 3, kStartTicks = 19;
  ProcessFacts facts{{pid, 0}, 0, false};
  if (fields.size() <= kStartTicks || !absl::SimpleAtoi(fields[kStartTicks], &facts.identity.start_ticks) ||
      !absl::SimpleAtoi(fields[kSession], &facts.session)) {
    return absl::InternalError(absl::StrCat("Cannot read /proc/", pid, "/stat."));
  }
  facts.ended = fields[kState] == "Z" || fields[kState] == "X";
  return facts;
}

absl::StatusOr<ProcessIdentity> IdentifyProcess(pid_t pid) {
  ASSIGN_OR_RETURN(const ProcessFacts facts, ReadProcess(pid));
  if (facts.ended) return absl::NotFoundError(absl::StrCat("Process ", pid, " has ended."));
  return facts.identity;
}

bool IsRunning(const ProcessIdentity& process) {
  const absl::StatusOr<ProcessIdentity> now = IdentifyProcess(process.pid);
  return now.ok() && now->start_ticks == process.start_ticks;
}

std::vector<pid_t> AllProcesses() {
  std::vector<pid_t> pids;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    pid_t pid = 0;
    if (absl::SimpleAtoi(entry.path().filename().string(), &pid)) pids.push_back(pid);
  }
  return pids;
}

std::vector<ProcessIdentity> RunningInSession(const ProcessIdentity& leader) {
  std::vector<ProcessIdentity> members;
  for (const pid_t pid : AllProcesses()) {
    const absl::StatusOr<ProcessFacts> facts = ReadProcess(pid);
    if (!facts.ok() || facts->ended || facts->session != leader.pid) continue;
    // The number now leads a session of another process: whatever the old one had is gone.
    if (pid == leader.pid && facts->identity.start_ticks != leader.start_ticks) return {};
    if (facts->identity.start_ticks >= leader.start_ticks) members.push_back(facts->identity);
  }
  return members;
}

void SignalProcess(const ProcessIdentity& process, int signal_number) {
  const absl::StatusOr<int> fd = OpenProcess(process);
  if (!fd.ok()) return;
  ::syscall(SYS_pidfd_send_signal, *fd, signal_number, nullptr, 0);
  ::close(*fd);
}

absl::StatusOr<int> OpenProcess(const ProcessIdentity& process) {
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, process.pid, 0));
  if (fd < 0) return absl::NotFoundError(absl::StrCat("Process ", process.pid, " has ended."));
  // The number may have been another's by the time it was opened; once open, the descriptor cannot change its process.
  const absl::StatusOr<ProcessFacts> facts = ReadProcess(process.pid);
  if (!facts.ok() || facts->identity.start_ticks != process.start_ticks) {
    ::close(fd);
    return absl::NotFoundError(absl::StrCat("Process ", process.pid, " has ended."));
  }
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  return fd;
}

absl::StatusOr<ProcessIdentity> StartDetached(const std::vector<std::string>& arguments, const std::string& log_path) {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&files);
  posix_spawnattr_init(&attributes);
  const absl::Cleanup destroy = [&] {
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
  };
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&files, 1, 2);
  posix_spawn_file_actions_addclosefrom_np(&files, 3);
  sigset_t none, defaults;
  sigemptyset(&none);
  sigemptyset(&defaults);
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGCHLD}) sigaddset(&defaults, number);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  std::vector<std::string> copies = arguments;
  std::vector<char*> pointers;
  for (std::string& argument : copies) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, arguments[0].c_str(), &files, &attributes, pointers.data(), environ);
  if (error != 0) {
    return absl::UnavailableError(absl::StrCat("Cannot start ", arguments[0], ": ", std::strerror(error), "."));
  }
  // It cannot be gone: even when it has ended, nobody has waited for it yet.
  ASSIGN_OR_RETURN(const ProcessFacts facts, ReadProcess(pid));
  return facts.identity;
}

}  // namespace ithaca

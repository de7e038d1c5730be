#include "worker/agent/engine_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

extern char** environ;

namespace ithaca {
namespace {

constexpr int kEventsFd = 3;
constexpr int kCommandsFd = 4;
constexpr int kEventsPipeBytes = 1 << 20;

absl::Status SystemError(const std::string& what, int error) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(error)));
}

void CloseFd(int* fd) {
  if (*fd >= 0) ::close(*fd);
  *fd = -1;
}

std::vector<std::string> Environment(const EngineCommand& command) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const bool replaced = std::any_of(command.environment.begin(), command.environment.end(),
                                      [&](const auto& pair) { return text.rfind(pair.first + "=", 0) == 0; });
    if (!replaced) all.push_back(text);
  }
  for (const auto& [name, value] : command.environment) all.push_back(name + "=" + value);
  return all;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// The child's ends of the pipes, moved above the numbers they are given in the child, so that no dup2 overwrites one.
absl::StatusOr<std::pair<int, int>> MakePipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return SystemError("cannot make a pipe", errno);
  const absl::Cleanup close_ends = [&ends] {
    ::close(ends[0]);
    ::close(ends[1]);
  };
  const int reader = ::fcntl(ends[0], F_DUPFD_CLOEXEC, 10);
  const int writer = ::fcntl(ends[1], F_DUPFD_CLOEXEC, 10);
  if (reader < 0 || writer < 0) return SystemError("cannot make a pipe", errno);
  return std::make_pair(reader, writer);
}

absl::StatusOr<pid_t> Spawn(const EngineCommand& command, int events_writer, int commands_reader) {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&files);
  posix_spawnattr_init(&attributes);
  const absl::Cleanup destroy = [&] {
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
  };
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, command.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&files, 1, 2);
  posix_spawn_file_actions_adddup2(&files, events_writer, kEventsFd);
  posix_spawn_file_actions_adddup2(&files, commands_reader, kCommandsFd);
  posix_spawn_file_actions_addclosefrom_np(&files, kCommandsFd + 1);
  if (!command.directory.empty()) posix_spawn_file_actions_addchdir_np(&files, command.directory.c_str());

  sigset_t none, defaults;
  sigemptyset(&none);
  sigemptyset(&defaults);
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGCHLD}) sigaddset(&defaults, number);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

  std::vector<std::string> arguments = {command.program};
  arguments.insert(arguments.end(), command.arguments.begin(), command.arguments.end());
  for (const std::string& more :
       {std::string("--events-fd"), absl::StrCat(kEventsFd), std::string("--commands-fd"), absl::StrCat(kCommandsFd)}) {
    arguments.push_back(more);
  }
  std::vector<std::string> environment = Environment(command);
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, command.program.c_str(), &files, &attributes, Pointers(arguments).data(),
                                  Pointers(environment).data());
  if (error != 0) return SystemError(absl::StrCat("cannot start ", command.program), error);
  return pid;
}

}  // namespace

absl::StatusOr<EngineProcess> EngineProcess::Start(const EngineCommand& command) {
  EngineProcess engine;
  absl::StatusOr<std::pair<int, int>> events = MakePipe();
  if (!events.ok()) return events.status();
  absl::StatusOr<std::pair<int, int>> commands = MakePipe();
  if (!commands.ok()) {
    ::close(events->first);
    ::close(events->second);
    return commands.status();
  }
  engine.events_fd_ = events->first;
  engine.commands_fd_ = commands->second;
  ::fcntl(engine.events_fd_, F_SETPIPE_SZ, kEventsPipeBytes);
  ::fcntl(engine.events_fd_, F_SETFL, O_NONBLOCK);
  ::fcntl(engine.commands_fd_, F_SETFL, O_NONBLOCK);
  absl::StatusOr<pid_t> pid = Spawn(command, events->second, commands->first);
  ::close(events->second);
  ::close(commands->first);
  if (!pid.ok()) return pid.status();
  engine.pid_ = *pid;
  engine.pid_fd_ = static_cast<int>(::syscall(SYS_pidfd_open, *pid, 0));
  if (engine.pid_fd_ < 0) return SystemError("pidfd_open", errno);
  ::fcntl(engine.pid_fd_, F_SETFD, FD_CLOEXEC);
  return engine;
}

EngineProcess::EngineProcess(EngineProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      pid_fd_(std::exchange(other.pid_fd_, -1)),
      events_fd_(std::exchange(other.events_fd_, -1)),
      commands_fd_(std::exchange(other.commands_fd_, -1)),
      end_(other.end_) {}

EngineProcess::~EngineProcess() {
  if (pid_ > 0 && !end_.has_value()) {
    ::kill(-pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  CloseFd(&pid_fd_);
  CloseFd(&events_fd_);
  CloseFd(&commands_fd_);
}

void EngineProcess::ReadEvents(std::string* bytes) {
  char buffer[64 << 10];
  for (int i = 0; i < 16 && events_fd_ >= 0; ++i) {
    const ssize_t n = ::read(events_fd_, buffer, sizeof buffer);
    if (n > 0) {
      bytes->append(buffer, static_cast<size_t>(n));
    } else if (n < 0 && errno == EINTR) {
      continue;
    } else {
      if (n == 0) CloseFd(&events_fd_);
      return;
    }
  }
}

void EngineProcess::SendCommand(const std::string& line) {
  const std::string bytes = line + "\n";
  (void)!::write(commands_fd_, bytes.data(), bytes.size());
}

void EngineProcess::Signal(int signal_number) {
  if (pid_ > 0 && !end_.has_value()) ::kill(-pid_, signal_number);
}

std::optional<ProcessEnd> EngineProcess::Poll() {
  if (end_.has_value() || pid_ <= 0) return end_;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  ProcessEnd end;
  if (WIFSIGNALED(status)) {
    end.signal = WTERMSIG(status);
    end.core_dumped = WCOREDUMP(status);
  } else {
    end.exit_code = WEXITSTATUS(status);
  }
  end_ = end;
  return end_;
}

std::string TailOfFile(const std::string& path, size_t max_bytes) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return "";
  const auto size = static_cast<size_t>(file.tellg());
  const size_t start = size > max_bytes ? size - max_bytes : 0;
  file.seekg(static_cast<std::streamoff>(start));
  std::string tail(size - start, '\0');
  file.read(tail.data(), static_cast<std::streamsize>(tail.size()));
  tail.resize(static_cast<size_t>(file.gcount()));
  const size_t line = tail.find('\n');
  if (start > 0 && line != std::string::npos) tail.erase(0, line + 1);
  return tail;
}

}  // namespace ithaca

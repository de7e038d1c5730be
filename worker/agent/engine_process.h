#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace ithaca {

// How a process ended: its exit code, or the signal that killed it.
struct ProcessEnd {
  int exit_code = 0;
  int signal = 0;  // 0: it exited by itself
  bool core_dumped = false;
};

// What to start, and where its output goes.
struct EngineCommand {
  std::string program;
  std::vector<std::string> arguments;                            // without the program and the pipe descriptors
  std::vector<std::pair<std::string, std::string>> environment;  // added to the worker's own
  std::string log_path;                                          // stdout and stderr, appended
  std::string directory;                                         // working directory; empty: the worker's
};

// One running ithaca-engine: its process, its pipes and its log file. Owned by the agent and used by its main thread
// only. That thread must live as long as the worker, because the engine's parent-death signal follows the thread that
// spawned it. The destructor kills the process if it still runs, and reaps it.
class EngineProcess {
 public:
  // Starts the program by posix_spawn in a process group of its own, with `--events-fd 3 --commands-fd 4`. UNAVAILABLE
  // with the system's word for it when that fails.
  static absl::StatusOr<EngineProcess> Start(const EngineCommand& command);

  EngineProcess(EngineProcess&& other) noexcept;
  EngineProcess& operator=(EngineProcess&&) = delete;
  ~EngineProcess();

  pid_t pid() const { return pid_; }
  // Readable when the process has ended.
  int pid_fd() const { return pid_fd_; }
  // Readable when there are events, and when the engine has closed its end. -1 once that was seen by ReadEvents.
  int events_fd() const { return events_fd_; }

  // Appends what the events pipe holds now to `*bytes`, at most about 1 MiB.
  void ReadEvents(std::string* bytes);
  // Writes a line to the commands pipe without blocking. An engine that does not read loses commands, not the worker
  // its time.
  void SendCommand(const std::string& line);
  // Sends the signal to the engine's process group.
  void Signal(int signal_number);
  // How it ended, if it has. Reaps it once; later calls give the same answer.
  std::optional<ProcessEnd> Poll();

 private:
  EngineProcess() = default;

  pid_t pid_ = -1;
  int pid_fd_ = -1, events_fd_ = -1, commands_fd_ = -1;
  std::optional<ProcessEnd> end_;
};

// The last lines of a log file, at most `max_bytes` of it, cut at a line's start. Empty if there is none.
std::string TailOfFile(const std::string& path, size_t max_bytes);

}  // namespace ithaca

#pragma once

#include <atomic>
#include <thread>

namespace ithaca::engine {

// What the outside asks of a running rank. Set from the command reader and the signal handler, read by the trainer once
// a step; all ranks then agree on it, so that one rank being asked is enough.
struct Requests {
  std::atomic<bool> stop = false;        // save a checkpoint and end
  std::atomic<bool> checkpoint = false;  // save one and go on
};

// Reads commands, a JSON object a line ({"command": "stop"} or {"command": "checkpoint"}), from a file descriptor until
// it closes. Unknown lines are told on stderr and otherwise ignored. `requests` outlives it.
class CommandReader {
 public:
  CommandReader(int fd, Requests& requests);
  ~CommandReader();

 private:
  void Loop();
  void Execute(const std::string& line);

  const int fd_;
  Requests& requests_;
  std::atomic<bool> closing_ = false;
  std::thread thread_;
};

// SIGTERM sets requests.stop; SIGPIPE and SIGXFSZ are ignored, so that writes return errors. Once per process;
// `requests` lives as long as the process.
void InstallSignalHandlers(Requests& requests);

// Has the kernel kill this process when its parent dies. `parent_pid` > 0: ends at once if that is not the parent any
// more.
void DieWithParent(int parent_pid);

}  // namespace ithaca::engine

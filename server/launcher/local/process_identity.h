#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace ithaca {

// A process of this machine, told apart from a later one that got the same number by the moment it started.
struct ProcessIdentity {
  pid_t pid = 0;
  uint64_t start_ticks = 0;  // clock ticks since boot: field 22 of /proc/<pid>/stat
};

// A process as /proc tells, ended or not.
struct ProcessFacts {
  ProcessIdentity identity;
  pid_t session = 0;
  bool ended = false;  // a zombie that its parent has not waited for
};

// NOT_FOUND when there is no such process.
absl::StatusOr<ProcessFacts> ReadProcess(pid_t pid);

// NOT_FOUND when there is no such process or it has ended (a zombie has ended).
absl::StatusOr<ProcessIdentity> IdentifyProcess(pid_t pid);

// Whether exactly that process still runs.
bool IsRunning(const ProcessIdentity& process);

// The numbers of all processes there are now.
std::vector<pid_t> AllProcesses();

// Every running process of the session that `leader` leads or led, itself included. A session's number is not given to
// a new process while a member is left; one that started before `leader` is another session's.
std::vector<ProcessIdentity> RunningInSession(const ProcessIdentity& leader);

// Sends the signal to exactly that process; one that has ended is no error.
void SignalProcess(const ProcessIdentity& process, int signal_number);

// A pidfd of exactly that process, readable when it has ended. NOT_FOUND when it has ended already. The caller closes
// it.
absl::StatusOr<int> OpenProcess(const ProcessIdentity& process);

// Starts `arguments` (the first names the program) in a session of its own, which lives on when this process ends; its
// output is appended to `log_path`. UNAVAILABLE with the system's word for it when that fails.
absl::StatusOr<ProcessIdentity> StartDetached(const std::vector<std::string>& arguments, const std::string& log_path);

}  // namespace ithaca

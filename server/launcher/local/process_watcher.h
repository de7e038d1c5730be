#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "server/launcher/local/process_identity.h"

namespace ithaca {

// Calls back as soon as a watched process ends, whoever its parent is. Owned by the launcher; one thread, joined by the
// destructor, which also calls back and must not be blocked.
class ProcessWatcher {
 public:
  explicit ProcessWatcher(std::function<void(pid_t)> on_end);
  ~ProcessWatcher();

  // Watches a process once; one that has ended already is called back for at once, unless its parent knows.
  void Watch(const ProcessIdentity& process);

 private:
  void Run();

  const std::function<void(pid_t)> on_end_;
  int epoll_fd_ = -1, stop_fd_ = -1;
  absl::Mutex mutex_;
  std::map<pid_t, int> watched_ ABSL_GUARDED_BY(mutex_);  // its pidfd
  std::thread thread_;
};

}  // namespace ithaca

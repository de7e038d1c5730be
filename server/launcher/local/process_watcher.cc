#include "server/launcher/local/process_watcher.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

namespace ithaca {

ProcessWatcher::ProcessWatcher(std::function<void(pid_t)> on_end)
    : on_end_(std::move(on_end)), epoll_fd_(::epoll_create1(EPOLL_CLOEXEC)), stop_fd_(::eventfd(0, EFD_CLOEXEC)) {
  epoll_event event{EPOLLIN, {.u64 = 0}};
  ::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, stop_fd_, &event);
  thread_ = std::thread([this] { Run(); });
}

ProcessWatcher::~ProcessWatcher() {
  const uint64_t one = 1;
  (void)!::write(stop_fd_, &one, sizeof one);
  thread_.join();
  for (const auto& [pid, fd] : watched_) ::close(fd);
  ::close(stop_fd_);
  ::close(epoll_fd_);
}

void ProcessWatcher::Watch(const ProcessIdentity& process) {
  absl::MutexLock lock(&mutex_);
  if (watched_.contains(process.pid)) return;
  const absl::StatusOr<int> fd = OpenProcess(process);
  if (!fd.ok()) return;
  watched_[process.pid] = *fd;
  epoll_event event{EPOLLIN, {.u64 = static_cast<uint64_t>(process.pid)}};
  ::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, *fd, &event);
}

void ProcessWatcher::Run() {
  while (true) {
    epoll_event event;
    if (::epoll_wait(epoll_fd_, &event, 1, -1) != 1) continue;
    if (event.data.u64 == 0) return;
    const auto pid = static_cast<pid_t>(event.data.u64);
    {
      absl::MutexLock lock(&mutex_);
      const auto found = watched_.find(pid);
      if (found == watched_.end()) continue;
      ::close(found->second);
      watched_.erase(found);
    }
    on_end_(pid);
  }
}

}  // namespace ithaca

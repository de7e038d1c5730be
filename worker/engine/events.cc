#include "worker/engine/events.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <utility>

#include "worker/engine/memory/memory_usage.h"

namespace ithaca::engine {
namespace {

double UnixSeconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

bool MustArrive(const std::string& event) {
  return event == "failed" || event == "checkpoint" || event == "finished" || event == "listening" || event == "plan";
}

}  // namespace

EventSink::EventSink(int fd, int rank) : fd_(fd), rank_(rank), writer_([this] { WriteLoop(); }) {}

EventSink::~EventSink() {
  std::unique_lock lock(mutex_);
  closing_ = true;
  changed_.notify_all();
  changed_.wait_for(lock, kDrainTime, [this] { return queue_.empty() || reader_gone_; });
  give_up_ = true;
  lock.unlock();
  writer_.join();
}

void EventSink::Emit(const std::string& event, const nlohmann::json& fields) {
  nlohmann::json object = {{"event", event}, {"time", UnixSeconds()}, {"rank", rank_}};
  object.update(fields);
  std::string line = object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  const std::lock_guard lock(mutex_);
  if (queue_.size() >= kCapacity && !MustArrive(event)) {
    ++dropped_;
    return;
  }
  queue_.push_back(std::move(line));
  changed_.notify_all();
}

// A line leaves the queue once it is written, so that an empty queue means everything has arrived.
void EventSink::WriteLoop() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return !queue_.empty() || closing_; });
    if (queue_.empty() || reader_gone_) {
      if (closing_) return;
      queue_.clear();
      continue;
    }
    const std::string line = queue_.front();
    lock.unlock();
    const bool written = WriteLine(line);
    lock.lock();
    queue_.pop_front();
    changed_.notify_all();
    if (!written && give_up_) return;
  }
}

// A pipe that polls as writable takes PIPE_BUF bytes without blocking; the poll ends now and then to see give_up_.
bool EventSink::WriteLine(const std::string& line) {
  constexpr size_t kPipeBuf = 4096;
  size_t done = 0;
  while (done < line.size() && !reader_gone_) {
    pollfd poll_fd = {.fd = fd_, .events = POLLOUT, .revents = 0};
    const int ready = poll(&poll_fd, 1, 100);
    if (ready == 0 || (ready < 0 && errno == EINTR)) {
      if (give_up_) return false;
      continue;
    }
    const ssize_t count = write(fd_, line.data() + done, std::min(kPipeBuf, line.size() - done));
    if (count >= 0) {
      done += static_cast<size_t>(count);
    } else if (errno != EINTR && errno != EAGAIN) {
      reader_gone_ = true;
    }
  }
  return done == line.size();
}

Heartbeat::Heartbeat(EventSink& events) : events_(events), thread_([this] { Loop(); }) {}

Heartbeat::~Heartbeat() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void Heartbeat::Loop() {
  std::unique_lock lock(mutex_);
  while (!closing_) {
    const int cuda = cuda_device_;
    const MemoryUsage memory = CurrentMemoryUsage(cuda < 0 ? at::Device(at::kCPU) : at::Device(at::kCUDA, cuda));
    events_.Emit(
        "heartbeat",
        {{"step", step_.load()}, {"phase", phase_.load()}, {"dropped", events_.dropped()}, {"memory", ToJson(memory)}});
    changed_.wait_for(lock, std::chrono::seconds(1), [this] { return closing_; });
  }
}

}  // namespace ithaca::engine

#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <thread>

namespace ithaca::engine {

// The events of one rank, a JSON object a line, to a file descriptor. A bounded queue and a writer thread stand between
// training and the reader: Emit never blocks; when the queue is full the event is dropped and counted, unless it is one
// that must arrive (failed, checkpoint, finished). Owned by Run; Emit from any thread. No errors: a reader that is gone
// shows in reader_gone().
class EventSink {
 public:
  EventSink(int fd, int rank);
  EventSink(const EventSink&) = delete;
  EventSink& operator=(const EventSink&) = delete;
  ~EventSink();  // writes what is queued, for as long as the reader takes it within kDrainTime

  // `fields` is an object; event, time and rank are added.
  void Emit(const std::string& event, const nlohmann::json& fields);

  bool reader_gone() const { return reader_gone_; }
  int64_t dropped() const { return dropped_; }

 private:
  static constexpr size_t kCapacity = 1024;
  static constexpr std::chrono::seconds kDrainTime{5};

  void WriteLoop();
  bool WriteLine(const std::string& line);

  const int fd_;
  const int rank_;
  std::atomic<bool> reader_gone_ = false;
  std::atomic<int64_t> dropped_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> queue_;  // guarded by mutex_
  bool closing_ = false;           // guarded by mutex_
  std::atomic<bool> give_up_ = false;
  std::thread writer_;
};

// Emits a heartbeat {step, phase, memory, dropped} every second from a thread of its own, so that a rank that computes
// or waits for a collective still shows life, and what it was doing when it stops. Setters from any thread; the sink
// outlives it.
class Heartbeat {
 public:
  explicit Heartbeat(EventSink& events);
  ~Heartbeat();

  void SetStep(int64_t step) { step_ = step; }
  int64_t step() const { return step_; }
  void SetPhase(const char* phase) { phase_ = phase; }     // a string literal
  void SetCudaDevice(int index) { cuda_device_ = index; }  // report its memory, not the host's

 private:
  void Loop();

  EventSink& events_;
  std::atomic<int> cuda_device_ = -1;
  std::atomic<int64_t> step_ = 0;
  std::atomic<const char*> phase_ = "starting";
  std::mutex mutex_;
  std::condition_variable changed_;
  bool closing_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace ithaca::engine

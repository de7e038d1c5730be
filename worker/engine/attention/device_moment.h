#pragma once

#include <c10/core/Device.h>
#include <c10/core/Event.h>

#include <chrono>
#include <memory>

namespace ithaca::engine {

// A point in the work of a device, to measure time between two without waiting in between. On the CPU it is the time it
// is made; on a GPU it is when the calling thread's current stream is through with all that it was given before (an
// event of the stream, recorded now and read later). A value; any thread. Throws what LibTorch throws.
class DeviceMoment {
 public:
  explicit DeviceMoment(at::Device device);

  // Blocks until the device has come to this moment.
  void Wait() const;

  // Seconds from `earlier`, of the same device, to this. The device must have come to both.
  double SecondsSince(const DeviceMoment& earlier) const;

 private:
  std::chrono::steady_clock::time_point host_time_;
  std::shared_ptr<c10::Event> event_;  // null on the CPU
};

struct DeviceSpan {
  DeviceMoment begin, end;
};

}  // namespace ithaca::engine

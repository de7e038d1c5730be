#include "worker/engine/attention/device_moment.h"

#include <c10/core/impl/VirtualGuardImpl.h>

namespace ithaca::engine {

DeviceMoment::DeviceMoment(at::Device device) {
  if (device.is_cpu()) {
    host_time_ = std::chrono::steady_clock::now();
    return;
  }
  event_ = std::make_shared<c10::Event>(device.type(), c10::EventFlag::BACKEND_DEFAULT);  // this kind keeps the time
  event_->record(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
}

void DeviceMoment::Wait() const {
  if (event_ != nullptr) event_->synchronize();
}

double DeviceMoment::SecondsSince(const DeviceMoment& earlier) const {
  if (event_ != nullptr) return earlier.event_->elapsedTime(*event_) / 1000;
  return std::chrono::duration<double>(host_time_ - earlier.host_time_).count();
}

}  // namespace ithaca::engine

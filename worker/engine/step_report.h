#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "worker/engine/attention/device_moment.h"
#include "worker/engine/memory/memory_usage.h"

namespace ithaca::engine {

// What one training step was: the `step` event.
struct StepReport {
  int64_t step = 0;  // counts from 1
  double loss = 0;   // mean over the targets of the global batch
  double grad_norm = 0;
  double learning_rate = 0;
  int64_t tokens = 0;
  int64_t target_tokens = 0;
  double seconds = 0;
  double flops = 0;       // of the whole step over all ranks, without recomputation
  double peak_flops = 0;  // of all ranks' devices a second; 0: unknown, and mfu is null
  std::map<std::string, double> seconds_by_phase;
  MemoryUsage memory;
};

nlohmann::json ToJson(const StepReport& report);

// Splits a step's time into phases: by the clock on a CPU, by events on a GPU, which are read when the step is over.
// One thread.
class PhaseTimer {
 public:
  explicit PhaseTimer(at::Device device);
  void Restart();
  // Ends the phase that ran since the last call and counts it as `phase`, but for the spans in it that are counted as
  // `other`. Does not wait for the device.
  void Count(const std::string& phase, const std::string& other = "", std::vector<DeviceSpan> other_spans = {});

  // From Restart until now, but not before the device is through with the last phase counted: waits for it, so that a
  // step ends when its optimizer does.
  double TotalSeconds() const;
  // Waits likewise.
  std::map<std::string, double> SecondsByPhase() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Part {
    std::string phase;
    DeviceMoment end;
    std::string other;
    std::vector<DeviceSpan> other_spans;
  };

  const DeviceMoment& last() const { return parts_.empty() ? begin_ : parts_.back().end; }

  const at::Device device_;
  Clock::time_point start_;
  DeviceMoment begin_;
  std::vector<Part> parts_;  // in order, each from the end of the one before
};

}  // namespace ithaca::engine

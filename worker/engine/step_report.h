#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>

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

// Splits a step's time into phases. One thread.
class PhaseTimer {
 public:
  PhaseTimer() { Restart(); }
  void Restart();
  // Ends the phase that ran since the last call and counts it as `phase`, but for `other_seconds` of it, which are
  // counted as `other`.
  void Count(const std::string& phase, const std::string& other = "", double other_seconds = 0);
  double TotalSeconds() const;
  const std::map<std::string, double>& seconds() const { return seconds_; }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_, last_;
  std::map<std::string, double> seconds_;
};

}  // namespace ithaca::engine

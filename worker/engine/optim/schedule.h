#pragma once

#include <cstdint>

#include "worker/plan/run_config.h"

namespace ithaca::engine {

// The learning rate of each optimizer step. It rises linearly over the first warmup_steps (step 0 has peak /
// warmup_steps), then stays (constant), or falls from the peak to peak * min_ratio at the last step: in a straight line
// (linear), along half a cosine (cosine), or in a straight line over the last tenth of the steps after warm-up (wsd).
class Schedule {
 public:
  Schedule(plan::ScheduleType type, double peak, int64_t warmup_steps, double min_ratio, int64_t total_steps);

  // step counts from 0.
  double LearningRate(int64_t step) const;

 private:
  plan::ScheduleType type_;
  double peak_;
  int64_t warmup_steps_;
  double min_ratio_;
  int64_t total_steps_;
};

}  // namespace ithaca::engine

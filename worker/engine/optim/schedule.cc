#include "worker/engine/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ithaca::engine {

Schedule::Schedule(plan::ScheduleType type, double peak, int64_t warmup_steps, double min_ratio, int64_t total_steps)
    : type_(type), peak_(peak), warmup_steps_(warmup_steps), min_ratio_(min_ratio), total_steps_(total_steps) {}

double Schedule::LearningRate(int64_t step) const {
  if (step < warmup_steps_) return peak_ * static_cast<double>(step + 1) / static_cast<double>(warmup_steps_);
  if (type_ == plan::ScheduleType::kConstant) return peak_;
  const double steps = static_cast<double>(std::max<int64_t>(total_steps_ - 1 - warmup_steps_, 1));
  const double progress = std::clamp(static_cast<double>(step - warmup_steps_) / steps, 0.0, 1.0);
  return peak_ * (min_ratio_ + (1.0 - min_ratio_) * 0.5 * (1.0 + std::cos(std::numbers::pi * progress)));
}

}  // namespace ithaca::engine

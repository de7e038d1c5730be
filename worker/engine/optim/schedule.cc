#include "worker/engine/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ithaca::engine {

namespace {

constexpr double kDecayShare = 0.1;  // of the steps after warm-up, at the end of a warm-up, stable, decay schedule

// From 1 at progress 0 to 0 at progress 1.
double Shape(plan::ScheduleType type, double progress) {
  switch (type) {
    case plan::ScheduleType::kConstant:
      return 1.0;
    case plan::ScheduleType::kLinear:
      return 1.0 - progress;
    case plan::ScheduleType::kCosine:
      return 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
    case plan::ScheduleType::kWsd:
      return std::min(1.0, (1.0 - progress) / kDecayShare);
  }
  return 1.0;
}

}  // namespace

Schedule::Schedule(plan::ScheduleType type, double peak, int64_t warmup_steps, double min_ratio, int64_t total_steps)
    : type_(type), peak_(peak), warmup_steps_(warmup_steps), min_ratio_(min_ratio), total_steps_(total_steps) {}

double Schedule::LearningRate(int64_t step) const {
  if (step < warmup_steps_) return peak_ * static_cast<double>(step + 1) / static_cast<double>(warmup_steps_);
  const double steps = static_cast<double>(std::max<int64_t>(total_steps_ - 1 - warmup_steps_, 1));
  const double progress = std::clamp(static_cast<double>(step - warmup_steps_) / steps, 0.0, 1.0);
  const double shape = Shape(type_, progress);
  return shape == 1.0 ? peak_ : peak_ * (min_ratio_ + (1.0 - min_ratio_) * shape);
}

}  // namespace ithaca::engine

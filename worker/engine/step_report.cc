#include "worker/engine/step_report.h"

#include <nlohmann/json.hpp>

namespace ithaca::engine {

nlohmann::json ToJson(const StepReport& report) {
  nlohmann::json mfu;  // null unless the peak is known
  if (report.peak_flops > 0) mfu = report.flops / report.seconds / report.peak_flops;
  return {{"step", report.step},
          {"loss", report.loss},
          {"grad_norm", report.grad_norm},
          {"learning_rate", report.learning_rate},
          {"tokens", report.tokens},
          {"target_tokens", report.target_tokens},
          {"seconds", report.seconds},
          {"tokens_per_second", static_cast<double>(report.tokens) / report.seconds},
          {"flops_per_second", report.flops / report.seconds},
          {"mfu", mfu},
          {"seconds_by_phase", report.seconds_by_phase},
          {"memory", ToJson(report.memory)}};
}

void PhaseTimer::Restart() {
  start_ = last_ = Clock::now();
  seconds_ = {{"data", 0.0},     {"forward", 0.0}, {"backward", 0.0},
              {"exchange", 0.0}, {"reduce", 0.0},  {"optimizer", 0.0}};
}

void PhaseTimer::Count(const std::string& phase, const std::string& other, double other_seconds) {
  const Clock::time_point now = Clock::now();
  seconds_[phase] += std::chrono::duration<double>(now - last_).count() - other_seconds;
  if (!other.empty()) seconds_[other] += other_seconds;
  last_ = now;
}

double PhaseTimer::TotalSeconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

}  // namespace ithaca::engine

#include "worker/engine/step_report.h"

#include <nlohmann/json.hpp>
#include <utility>

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

PhaseTimer::PhaseTimer(at::Device device) : device_(device), start_(Clock::now()), begin_(device) {}

void PhaseTimer::Restart() {
  start_ = Clock::now();
  begin_ = DeviceMoment(device_);
  parts_.clear();
}

void PhaseTimer::Count(const std::string& phase, const std::string& other, std::vector<DeviceSpan> other_spans) {
  parts_.push_back({phase, DeviceMoment(device_), other, std::move(other_spans)});
}

double PhaseTimer::TotalSeconds() const {
  last().Wait();
  return std::chrono::duration<double>(Clock::now() - start_).count();
}

std::map<std::string, double> PhaseTimer::SecondsByPhase() const {
  last().Wait();
  std::map<std::string, double> seconds = {{"data", 0.0},     {"forward", 0.0}, {"backward", 0.0},
                                           {"exchange", 0.0}, {"reduce", 0.0},  {"optimizer", 0.0}};
  const DeviceMoment* before = &begin_;
  for (const Part& part : parts_) {
    double others = 0;
    for (const DeviceSpan& span : part.other_spans) others += span.end.SecondsSince(span.begin);
    seconds[part.phase] += part.end.SecondsSince(*before) - others;
    if (!part.other.empty()) seconds[part.other] += others;
    before = &part.end;
  }
  return seconds;
}

}  // namespace ithaca::engine

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ithaca/v1/job.pb.h"
#include "ithaca/v1/job_service.pb.h"

namespace ithaca::client {

// What is known about a job that is being watched: the job, and its steps so far. A value; no I/O.
class WatchedJob {
 public:
  void Update(const v1::Job& job) { job_ = job; }
  void Add(const v1::StreamMetricsResponse& metrics);

  const v1::Job& job() const { return job_; }
  int64_t total_steps() const;
  // Seconds to the last step: the coordinator's estimate, else by the mean time of the last steps; nullopt: not known.
  std::optional<double> SecondsLeft() const;
  const std::vector<double>& losses() const { return losses_; }
  const std::optional<v1::StepMetrics>& last_step() const { return last_step_; }
  const std::optional<v1::EvalMetrics>& last_eval() const { return last_eval_; }

 private:
  v1::Job job_;
  std::vector<double> losses_;  // one a step, for the curve
  double recent_seconds_ = 0;   // moving average of a step's time
  std::optional<v1::StepMetrics> last_step_;
  std::optional<v1::EvalMetrics> last_eval_;
};

// The whole view for a terminal, redrawn in place: job, progress bar, loss with its curve, speed, memory per rank.
// Every line is at most `columns` wide. `now` is in seconds since the epoch.
std::string FormatWatchScreen(const WatchedJob& watched, double now, int columns);

// For output that is not a terminal: one line for a change of state, one for every step or evaluation.
std::string FormatStateLine(const v1::Job& job);
std::string FormatStepLine(const v1::StreamMetricsResponse& metrics, const WatchedJob& watched);

}  // namespace ithaca::client

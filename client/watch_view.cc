#include "client/watch_view.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/format.h"
#include "client/job_view.h"
#include "worker/plan/plan_table.h"

namespace ithaca::client {
namespace {

// The losses as a row of bars, at most `width`: each is the mean of its share of the steps.
std::string LossCurve(const std::vector<double>& losses, size_t width) {
  static constexpr const char* kBars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  if (losses.size() < 2 || width == 0) return "";
  const size_t cells = std::min(width, losses.size());
  std::vector<double> means;
  for (size_t i = 0; i < cells; ++i) {
    const size_t begin = i * losses.size() / cells, end = (i + 1) * losses.size() / cells;
    double sum = 0;
    for (size_t k = begin; k < end; ++k) sum += losses[k];
    means.push_back(sum / static_cast<double>(end - begin));
  }
  const auto [low, high] = std::minmax_element(means.begin(), means.end());
  const double range = *high - *low;
  std::string curve;
  for (const double mean : means) curve += kBars[range > 0 ? static_cast<int>((mean - *low) / range * 7.0 + 0.5) : 0];
  return curve;
}

std::string Speed(double tokens_per_second) {
  return absl::StrCat(FormatInteger(static_cast<int64_t>(tokens_per_second + 0.5)), " tokens/s");
}

// "a", "b" -> "a   b" with as many of the parts as fit.
std::string JoinFitting(const std::vector<std::string>& parts, size_t columns) {
  std::string line;
  for (const std::string& part : parts) {
    if (part.empty()) continue;
    const std::string longer = line.empty() ? part : absl::StrCat(line, "   ", part);
    if (DisplayWidth(longer) <= columns) line = longer;
  }
  return line;
}

std::string ProgressLine(const WatchedJob& watched, size_t columns) {
  const int64_t step = watched.job().progress().step(), total = watched.total_steps();
  if (total == 0) return absl::StrCat("step ", step);
  const std::string head = absl::StrCat("step ", step, "/", total, "  ");
  const auto left = watched.SecondsLeft();
  const std::string tail =
      absl::StrCat(absl::StrFormat("  %3d%%", step * 100 / total),
                   left && !IsTerminal(watched.job().state()) ? absl::StrCat("  ", FormatSeconds(*left), " left") : "");
  const int width = static_cast<int>(columns) - static_cast<int>(DisplayWidth(head) + DisplayWidth(tail));
  constexpr int kWidest = 50;
  return absl::StrCat(
      head, ProgressBar(static_cast<double>(step) / static_cast<double>(total), std::clamp(width, 0, kWidest)), tail);
}

}  // namespace

void WatchedJob::Add(const v1::StreamMetricsResponse& metrics) {
  if (metrics.has_eval()) last_eval_ = metrics.eval();
  if (!metrics.has_step()) return;
  last_step_ = metrics.step();
  losses_.push_back(metrics.step().loss());
  constexpr double kWeight = 0.2;
  recent_seconds_ = recent_seconds_ == 0 ? metrics.step().seconds()
                                         : (1 - kWeight) * recent_seconds_ + kWeight * metrics.step().seconds();
}

int64_t WatchedJob::total_steps() const {
  if (job_.progress().total_steps() > 0) return job_.progress().total_steps();
  if (last_step_ && last_step_->total_steps() > 0) return last_step_->total_steps();
  return job_.spec().training().steps();
}

std::optional<double> WatchedJob::SecondsLeft() const {
  if (job_.progress().eta_seconds() > 0) return job_.progress().eta_seconds();
  if (!last_step_ || total_steps() == 0) return std::nullopt;
  return static_cast<double>(std::max<int64_t>(0, total_steps() - last_step_->step())) * recent_seconds_;
}

std::string FormatWatchScreen(const WatchedJob& watched, double now, int columns) {
  const v1::Job& job = watched.job();
  const v1::Progress& progress = job.progress();
  const double start = job.has_start_time() ? SecondsOf(job.start_time()) : SecondsOf(job.create_time());
  const double end = job.has_end_time() ? SecondsOf(job.end_time()) : now;
  std::string text =
      JoinFitting({job.name(), StateName(job.state()), job.id(),
                   job.attempt() > 1 ? absl::StrCat("attempt ", job.attempt()) : "", FormatSeconds(end - start)},
                  columns);
  absl::StrAppend(&text, "\n");
  const std::string why = job.message().empty() ? ReasonName(job.reason()) : job.message();
  if (!why.empty() && job.state() != v1::JOB_STATE_RUNNING) {
    absl::StrAppend(&text, Truncate(why.substr(0, why.find('\n')), columns), "\n");
  }
  absl::StrAppend(&text, ProgressLine(watched, columns), "\n");
  if (progress.step() > 0) {
    const std::string loss = absl::StrCat("loss ", FormatFixed(progress.loss(), 4));
    absl::StrAppend(
        &text,
        JoinFitting({loss, LossCurve(watched.losses(), 30),
                     progress.has_eval_loss() ? absl::StrCat("held-out ", FormatFixed(progress.eval_loss(), 4)) : "",
                     absl::StrCat("grad norm ", FormatFixed(progress.grad_norm(), 3))},
                    columns),
        "\n");
    absl::StrAppend(
        &text,
        JoinFitting({Speed(progress.tokens_per_second()),
                     progress.mfu() > 0 ? absl::StrFormat("MFU %.1f%%", progress.mfu() * 100) : "",
                     absl::StrCat("learning rate ", FormatLearningRate(progress.learning_rate())),
                     watched.last_step() ? absl::StrCat(FormatSeconds(watched.last_step()->seconds()), " a step") : ""},
                    columns),
        "\n");
  }
  if (!job.ranks().empty()) absl::StrAppend(&text, FormatRanks(job.ranks()));
  return text;
}

std::string FormatStateLine(const v1::Job& job) {
  const std::string why = job.message().empty() ? ReasonName(job.reason()) : job.message();
  return absl::StrCat(job.id(), "  ", job.name(), "  ", StateName(job.state()), why.empty() ? "" : "  ", why, "\n");
}

std::string FormatStepLine(const v1::StreamMetricsResponse& metrics, const WatchedJob& watched) {
  if (metrics.has_eval()) {
    return absl::StrFormat("held-out loss %.4f after step %d\n", metrics.eval().loss(), metrics.eval().step());
  }
  const v1::StepMetrics& step = metrics.step();
  std::string line = absl::StrCat("step ", step.step());
  if (watched.total_steps() > 0) absl::StrAppend(&line, "/", watched.total_steps());
  absl::StrAppend(&line, absl::StrFormat("  loss %.4f  grad norm %.4f  ", step.loss(), step.grad_norm()),
                  Speed(step.tokens_per_second()), "  ", FormatSeconds(step.seconds()));
  int64_t peak = step.memory().peak_bytes();
  for (const v1::RankStatus& rank : watched.job().ranks()) peak = std::max(peak, rank.peak_memory_bytes());
  if (peak > 0) absl::StrAppend(&line, "  peak ", plan::FormatBytes(peak));
  if (const auto left = watched.SecondsLeft()) absl::StrAppend(&line, "  ", FormatSeconds(*left), " left");
  return line + "\n";
}

}  // namespace ithaca::client

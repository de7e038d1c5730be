#include "client/job_view.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/format.h"
#include "worker/plan/plan_table.h"

namespace ithaca::client {
namespace {

using Align = Table::Align;

std::string ProgressText(const v1::Progress& progress) {
  if (progress.total_steps() == 0) return progress.step() == 0 ? "-" : absl::StrCat(progress.step());
  return absl::StrCat(progress.step(), "/", progress.total_steps());
}

std::string OrDash(bool known, const std::string& text) { return known ? text : "-"; }

// The first line: a message may go on with log lines.
std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

std::string Why(const v1::Job& job) {
  const std::string message = FirstLine(job.message());
  return message.empty() ? ReasonName(job.reason()) : message;
}

std::string BlameName(v1::Blame blame) {
  switch (blame) {
    case v1::BLAME_USER:
      return "the job";
    case v1::BLAME_SYSTEM:
      return "the service";
    case v1::BLAME_HARDWARE:
      return "the hardware";
    default:
      return "";
  }
}

void AddLine(std::string& text, const std::string& key, const std::string& value) {
  if (!value.empty()) absl::StrAppend(&text, absl::StrFormat("%-13s", key), value, "\n");
}

void AddTimes(std::string& text, const v1::Job& job, double now) {
  AddLine(text, "created", absl::StrCat(FormatClock(job.create_time()), " UTC"));
  if (job.has_start_time()) {
    AddLine(text, "started", absl::StrCat(FormatClock(job.start_time()), " UTC"));
    const double end = job.has_end_time() ? SecondsOf(job.end_time()) : now;
    AddLine(text, "ran for", FormatSeconds(end - SecondsOf(job.start_time())));
  }
  if (job.has_end_time()) AddLine(text, "ended", absl::StrCat(FormatClock(job.end_time()), " UTC"));
}

void AddProgress(std::string& text, const v1::Progress& progress) {
  AddLine(text, "step", ProgressText(progress));
  AddLine(text, "loss", FormatFixed(progress.loss(), 4));
  if (progress.has_eval_loss()) AddLine(text, "eval loss", FormatFixed(progress.eval_loss(), 4));
  AddLine(text, "grad norm", FormatFixed(progress.grad_norm(), 4));
  AddLine(text, "tokens/s", FormatInteger(static_cast<int64_t>(progress.tokens_per_second() + 0.5)));
  if (progress.eta_seconds() > 0) AddLine(text, "time left", FormatSeconds(progress.eta_seconds()));
}

}  // namespace

std::string FormatJobList(const std::vector<v1::Job>& jobs, double now, int columns) {
  Table table({{"JOB"},
               {"NAME"},
               {"STATE"},
               {"STEP", Align::kRight},
               {"LOSS", Align::kRight},
               {"TOKENS/S", Align::kRight},
               {"AGE", Align::kRight},
               {"WHY"}});
  constexpr size_t kLongestName = 24;
  for (const v1::Job& job : jobs) {
    const v1::Progress& progress = job.progress();
    const bool trained = progress.step() > 0;
    table.AddRow({job.id(), Truncate(job.name(), kLongestName), StateName(job.state()), ProgressText(progress),
                  OrDash(trained, FormatFixed(progress.loss(), 4)),
                  OrDash(trained, FormatInteger(static_cast<int64_t>(progress.tokens_per_second() + 0.5))),
                  FormatSeconds(now - SecondsOf(job.create_time())),
                  job.state() == v1::JOB_STATE_RUNNING || job.state() == v1::JOB_STATE_SUCCEEDED ? "" : Why(job)});
  }
  std::string text;
  const std::string whole = table.ToString();
  for (size_t begin = 0; begin < whole.size();) {
    const size_t end = whole.find('\n', begin);
    absl::StrAppend(&text, Truncate(whole.substr(begin, end - begin), columns), "\n");
    begin = end + 1;
  }
  return text;
}

std::string FormatJob(const v1::Job& job, double now) {
  std::string text;
  AddLine(text, "job", job.id());
  AddLine(text, "name", job.name());
  AddLine(text, "state", StateName(job.state()));
  AddLine(text, "reason", ReasonName(job.reason()));
  AddLine(text, "up to", BlameName(job.blame()));
  if (job.attempt() > 0) AddLine(text, "attempt", absl::StrCat(job.attempt()));
  AddLine(text, "owner", job.owner());
  std::vector<std::string> labels;
  for (const auto& [key, value] : job.labels()) labels.push_back(absl::StrCat(key, "=", value));
  std::sort(labels.begin(), labels.end());
  for (const std::string& label : labels) AddLine(text, "label", label);
  AddTimes(text, job, now);
  AddLine(text, "model", job.spec().model().path());
  AddLine(text, "tokens", absl::StrCat(FormatInteger(job.spec().data().sequence_length()), " a sequence"));
  if (job.has_progress()) AddProgress(text, job.progress());
  for (const v1::Checkpoint& checkpoint : job.checkpoints()) {
    AddLine(text, "checkpoint", absl::StrCat(checkpoint.path(), "  ", plan::FormatBytes(checkpoint.size_bytes())));
  }
  AddLine(text, "export", job.export_path());
  if (!job.message().empty()) absl::StrAppend(&text, "\n", job.message(), job.message().back() == '\n' ? "" : "\n");
  if (!job.ranks().empty()) absl::StrAppend(&text, "\n", FormatRanks(job.ranks()));
  return text;
}

std::string FormatRanks(const google::protobuf::RepeatedPtrField<v1::RankStatus>& ranks) {
  Table table({{"RANK", Align::kRight},
               {"HOST"},
               {"PID", Align::kRight},
               {"PHASE"},
               {"STEP", Align::kRight},
               {"MEMORY", Align::kRight},
               {"PEAK", Align::kRight}});
  for (const v1::RankStatus& rank : ranks) {
    table.AddRow({absl::StrCat(rank.rank()), rank.host(), OrDash(rank.pid() > 0, absl::StrCat(rank.pid())),
                  OrDash(!rank.phase().empty(), rank.phase()), absl::StrCat(rank.step()),
                  OrDash(rank.memory_bytes() > 0, plan::FormatBytes(rank.memory_bytes())),
                  OrDash(rank.peak_memory_bytes() > 0, plan::FormatBytes(rank.peak_memory_bytes()))});
  }
  return table.ToString();
}

std::string FormatEvents(const std::vector<v1::Event>& events, int columns) {
  Table table({{"TIME (UTC)"}, {"ATTEMPT", Align::kRight}, {"RANK", Align::kRight}, {"KIND"}, {"WHAT"}});
  constexpr size_t kOtherColumns = 48;
  for (const v1::Event& event : events) {
    std::string what = FirstLine(event.message().empty() ? event.json() : event.message());
    if (event.kind() == "state") what = absl::StrCat(StateName(event.state()), what.empty() ? "" : ": ", what);
    table.AddRow({FormatClock(event.time()), OrDash(event.attempt() > 0, absl::StrCat(event.attempt())),
                  OrDash(event.has_rank(), absl::StrCat(event.rank())), event.kind(),
                  Truncate(what, std::max<size_t>(columns, kOtherColumns + 20) - kOtherColumns)});
  }
  return table.ToString();
}

std::string FormatMetricsHeader() {
  return absl::StrFormat("%8s  %9s  %9s  %8s  %10s  %8s  %6s  %10s\n", "STEP", "LOSS", "GRAD NORM", "LR", "TOKENS/S",
                         "SECONDS", "MFU", "PEAK");
}

std::string FormatMetricsRow(const v1::StreamMetricsResponse& metrics) {
  if (metrics.has_eval()) {
    return absl::StrFormat("%8d  %9.4f  held-out loss of %s tokens, %s\n", metrics.eval().step(), metrics.eval().loss(),
                           FormatInteger(metrics.eval().target_tokens()), FormatSeconds(metrics.eval().seconds()));
  }
  const v1::StepMetrics& step = metrics.step();
  return absl::StrFormat("%8d  %9.4f  %9.4f  %8s  %10s  %8.2f  %6s  %10s\n", step.step(), step.loss(), step.grad_norm(),
                         FormatLearningRate(step.learning_rate()),
                         FormatInteger(static_cast<int64_t>(step.tokens_per_second() + 0.5)), step.seconds(),
                         OrDash(step.mfu() > 0, absl::StrFormat("%.1f%%", step.mfu() * 100)),
                         OrDash(step.memory().peak_bytes() > 0, plan::FormatBytes(step.memory().peak_bytes())));
}

}  // namespace ithaca::client

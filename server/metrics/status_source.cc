#include "server/metrics/status_source.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"

namespace ithaca {
namespace {

constexpr size_t kMaxRows = 50;
constexpr size_t kMaxPoints = 240;
constexpr int kStepsPerRead = 4096;

StatusRow RowOf(const v1::Job& job) {
  StatusRow row;
  row.id = job.id();
  row.name = job.name();
  row.state = absl::AsciiStrToLower(StateName(job.state()));
  // A running job needs no explanation, and the table of a failure can be long: the first line says it.
  row.sentence = job.message().substr(0, job.message().find('\n'));
  row.attempt = job.attempt();
  row.step = job.progress().step();
  row.steps = job.progress().total_steps() > 0 ? job.progress().total_steps() : job.spec().training().steps();
  row.loss = job.progress().loss();
  row.tokens_per_second = job.progress().tokens_per_second();
  row.mfu = job.progress().mfu();
  for (const v1::RankStatus& rank : job.ranks()) {
    if (rank.peak_memory_bytes() > 0) row.peak_bytes_by_rank.emplace_back(rank.rank(), rank.peak_memory_bytes());
  }
  row.created = absl::FromUnixSeconds(job.create_time().seconds());
  return row;
}

}  // namespace

std::vector<double> StatusSource::Losses(const std::string& job_id) {
  Curve& curve = curves_[job_id];
  auto piece = history_.ReadMetrics(job_id, curve.cursor, kStepsPerRead);
  if (piece.ok()) {
    curve.cursor = piece->cursor;
    for (const v1::StreamMetricsResponse& response : piece->responses) {
      if (!response.has_step() || response.step().step() % curve.stride != 0) continue;
      curve.points.emplace_back(response.step().step(), response.step().loss());
      if (curve.points.size() <= kMaxPoints) continue;
      curve.stride *= 2;
      std::erase_if(curve.points, [&curve](const auto& point) { return point.first % curve.stride != 0; });
    }
  }
  std::vector<double> losses;
  for (const auto& [step, loss] : curve.points) losses.push_back(loss);
  return losses;
}

StatusView StatusSource::View() {
  StatusView view;
  view.version = version_;
  view.now = clock_.Now();
  for (const SlotUse& slots : table_.Slots()) {
    view.slots_total += slots.total;
    view.slots_used += slots.used;
  }
  std::vector<v1::Job> ended;
  for (LiveJob& live : table_.Live(absl::InfiniteDuration())) {
    if (IsTerminal(live.job.state())) {
      ended.push_back(std::move(live.job));
      continue;
    }
    if (live.job.state() == v1::JOB_STATE_QUEUED) ++view.queued;
    view.rows.push_back(RowOf(live.job));
  }
  std::stable_sort(ended.begin(), ended.end(),
                   [](const v1::Job& a, const v1::Job& b) { return a.end_time().seconds() > b.end_time().seconds(); });
  for (const v1::Job& job : ended) view.rows.push_back(RowOf(job));
  if (view.rows.size() > kMaxRows) view.rows.resize(kMaxRows);

  absl::MutexLock lock(&mutex_);
  std::set<std::string> shown;
  for (StatusRow& row : view.rows) {
    row.losses = Losses(row.id);
    shown.insert(row.id);
  }
  std::erase_if(curves_, [&shown](const auto& entry) { return !shown.contains(entry.first); });
  return view;
}

}  // namespace ithaca

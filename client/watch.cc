#include <algorithm>
#include <chrono>

#include "client/format.h"
#include "client/verbs.h"
#include "client/watch_view.h"
#include "proto/status_macros.h"

namespace ithaca::client {
namespace {

// Shows one watched job. On a terminal the view is drawn over its predecessor; elsewhere lines are added.
class Watcher {
 public:
  Watcher(Client& client, std::string job_id) : client_(client) { metrics_.set_job_id(std::move(job_id)); }

  void Show(const v1::Job& job) {
    const bool news = job.state() != watched_.job().state() || job.message() != watched_.job().message();
    const bool lines = client_.output() == OutputFormat::kTable && !client_.terminal().interactive;
    watched_.Update(job);
    // A job's last steps come before the line that says it is over.
    if (lines && news && !IsTerminal(job.state())) Print(FormatStateLine(job));
    FetchSteps();
    if (lines && news && IsTerminal(job.state())) Print(FormatStateLine(job));
    if (client_.output() != OutputFormat::kTable) Print(ToJsonLine(job));
    if (client_.output() == OutputFormat::kTable && client_.terminal().interactive) Redraw();
  }

  const v1::Job& job() const { return watched_.job(); }

 private:
  // The steps since the last time. What cannot be had now comes with the next change.
  void FetchSteps() {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    const auto reader = client_.stub().StreamMetrics(&context, metrics_);
    v1::StreamMetricsResponse metrics;
    while (reader->Read(&metrics)) {
      metrics_.set_cursor(metrics.cursor());
      watched_.Add(metrics);
      if (client_.output() != OutputFormat::kTable) {
        Print(ToJsonLine(metrics));
      } else if (!client_.terminal().interactive) {
        Print(FormatStepLine(metrics, watched_));
      }
    }
    reader->Finish();
  }

  void Print(const std::string& text) { client_.terminal().out << text << std::flush; }

  void Redraw() {
    const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
    const std::string screen = FormatWatchScreen(watched_, now.count(), client_.terminal().columns);
    const std::string up = drawn_lines_ == 0 ? "" : "\x1b[" + std::to_string(drawn_lines_) + "A";
    drawn_lines_ = std::count(screen.begin(), screen.end(), '\n');
    std::string text = up + "\r";
    for (const char c : screen) text += c == '\n' ? std::string("\x1b[K\n") : std::string(1, c);
    Print(text + "\x1b[J");
  }

  Client& client_;
  WatchedJob watched_;
  v1::StreamMetricsRequest metrics_;
  int64_t drawn_lines_ = 0;
};

}  // namespace

absl::StatusOr<ExitCode> Watch(Client& client, const std::string& job_id) {
  v1::WatchJobRequest request;
  ASSIGN_OR_RETURN(*request.mutable_job_id(), client.ResolveJobId(job_id));
  Watcher watcher(client, request.job_id());
  RETURN_IF_ERROR(client.Follow(&v1::JobService::Stub::WatchJob, request,
                                [&](const v1::WatchJobResponse& response) { watcher.Show(response.job()); }));
  const v1::Job& job = watcher.job();
  if (client.output() == OutputFormat::kTable && client.terminal().interactive && job.state() == v1::JOB_STATE_FAILED) {
    client.terminal().out << "\n" << job.message() << "\n";
  }
  switch (job.state()) {
    case v1::JOB_STATE_SUCCEEDED:
      return ExitCode::kOk;
    case v1::JOB_STATE_FAILED:
      return ExitCode::kJobFailed;
    case v1::JOB_STATE_CANCELLED:
      return ExitCode::kJobCancelled;
    default:
      return absl::InternalError("the coordinator ended the watch before the job was over");
  }
}

}  // namespace ithaca::client

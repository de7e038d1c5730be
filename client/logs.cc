#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/verbs.h"
#include "proto/status_macros.h"

namespace ithaca::client {
namespace {

// Puts "rank N | " before each line when there are several ranks; a line is printed when it is whole.
class LogPrinter {
 public:
  LogPrinter(std::ostream& out, bool one_rank) : out_(out), one_rank_(one_rank) {}
  ~LogPrinter() {
    for (const auto& [key, rest] : unfinished_) {
      if (!rest.empty()) out_ << Prefix(key.second) << rest << "\n";
    }
  }

  void Print(const v1::StreamLogsResponse& chunk) {
    if (one_rank_) {
      out_ << chunk.data() << std::flush;
      return;
    }
    std::string& line = unfinished_[{chunk.attempt(), chunk.rank()}];
    for (const char c : chunk.data()) {
      line += c;
      if (c != '\n') continue;
      out_ << Prefix(chunk.rank()) << line;
      line.clear();
    }
    out_ << std::flush;
  }

 private:
  static std::string Prefix(int rank) { return absl::StrCat("rank ", rank, " | "); }

  std::ostream& out_;
  const bool one_rank_;
  std::map<std::pair<int, int>, std::string> unfinished_;  // by attempt and rank
};

}  // namespace

absl::StatusOr<ExitCode> Logs(Client& client, const LogsOptions& options) {
  v1::StreamLogsRequest request;
  ASSIGN_OR_RETURN(*request.mutable_job_id(), client.ResolveJobId(options.job));
  request.set_attempt(options.attempt);
  request.set_follow(options.follow);
  request.mutable_ranks()->Assign(options.ranks.begin(), options.ranks.end());
  LogPrinter printer(client.terminal().out, options.ranks.size() == 1);
  RETURN_IF_ERROR(client.Follow(&v1::JobService::Stub::StreamLogs, request,
                                [&](const v1::StreamLogsResponse& chunk) { printer.Print(chunk); }));
  return ExitCode::kOk;
}

}  // namespace ithaca::client

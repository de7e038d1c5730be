#include "server/core/history.h"

#include <algorithm>
#include <limits>
#include <map>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "proto/errors.h"
#include "proto/status_macros.h"
#include "server/core/live_state.h"

namespace ithaca {
namespace {

constexpr int64_t kLogPiece = 64 << 10;  // bytes of one response
constexpr int kPage = 1024;

// Which attempts there are, taken before reading: what has ended by then cannot grow while it is read.
struct Extent {
  int newest = 0;
  bool newest_ended = true;
  bool terminal = false;

  bool Ended(int attempt) const { return attempt < newest || newest_ended; }
};

absl::StatusOr<Extent> ExtentOf(const JobTable& table, const std::string& job_id) {
  Extent extent;
  RETURN_IF_ERROR(table.Read(job_id, [&](const JobEntry& entry) {
    if (const AttemptRecord* newest = entry.newest(); newest != nullptr) {
      extent.newest = newest->number;
      extent.newest_ended = newest->ended();
    }
    extent.terminal = IsTerminal(entry.record.job.state());
  }));
  return extent;
}

absl::Status BadCursor() { return InvalidFields({{"cursor", 0, "is not one that this stream has given"}}); }

// Position in the logs: the attempt, and the offset of each rank that has been read. "2;0:1234,1:99".
struct LogCursor {
  int attempt = 0;
  std::map<int, int64_t> offsets;

  std::string ToText() const {
    return absl::StrCat(attempt, ";", absl::StrJoin(offsets, ",", absl::PairFormatter(":")));
  }

  static absl::StatusOr<LogCursor> Parse(const std::string& text) {
    LogCursor cursor;
    const std::vector<std::string> parts = absl::StrSplit(text, ';');
    if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &cursor.attempt) || cursor.attempt < 0) return BadCursor();
    for (const absl::string_view pair : absl::StrSplit(parts[1], ',', absl::SkipEmpty())) {
      const std::vector<std::string> sides = absl::StrSplit(pair, ':');
      int rank = 0;
      int64_t offset = 0;
      if (sides.size() != 2 || !absl::SimpleAtoi(sides[0], &rank) || !absl::SimpleAtoi(sides[1], &offset) ||
          offset < 0) {
        return BadCursor();
      }
      cursor.offsets[rank] = offset;
    }
    return cursor;
  }
};

// Position in the steps: the attempt and the place in its file. "2.4096".
struct MetricsCursor {
  int attempt = 1;
  int64_t position = 0;

  std::string ToText() const { return absl::StrCat(attempt, ".", position); }

  static absl::StatusOr<MetricsCursor> Parse(const std::string& text) {
    MetricsCursor cursor;
    const std::vector<std::string> parts = absl::StrSplit(text, '.');
    if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &cursor.attempt) ||
        !absl::SimpleAtoi(parts[1], &cursor.position) || cursor.attempt < 1 || cursor.position < 0) {
      return BadCursor();
    }
    return cursor;
  }
};

// Of a piece that may go on, only the whole lines, unless there is none.
void KeepWholeLines(bool may_go_on, std::string& data) {
  const size_t end = data.rfind('\n');
  if (may_go_on && end != std::string::npos) data.resize(end + 1);
}

// The first step that an attempt did; the largest number if it did none.
absl::StatusOr<int64_t> FirstStep(AttemptFiles& files, const AttemptKey& key) {
  EventPage page;
  do {
    ASSIGN_OR_RETURN(page, files.ReadEvents(key, EventFile::kSteps, page.next_position, /*max_events=*/16));
    for (const EngineEventRecord& event : page.events) {
      const auto metrics = MetricsOf(event);
      if (metrics && metrics->has_step()) return metrics->step().step();
    }
  } while (!page.at_end);
  return std::numeric_limits<int64_t>::max();
}

int64_t StepOf(const v1::StreamMetricsResponse& metrics) {
  return metrics.has_step() ? metrics.step().step() : metrics.eval().step();
}

}  // namespace

absl::StatusOr<History::Piece<v1::StreamLogsResponse>> History::ReadLogs(const v1::StreamLogsRequest& request,
                                                                         const std::string& cursor) {
  ASSIGN_OR_RETURN(const Extent extent, ExtentOf(table_, request.job_id()));
  LogCursor position{request.attempt() != 0 ? request.attempt() : extent.newest, {}};
  if (!cursor.empty()) {
    ASSIGN_OR_RETURN(position, LogCursor::Parse(cursor));
  }
  if (position.attempt == 0) position.attempt = extent.newest;  // the job had not started then
  if (request.attempt() < 0 || position.attempt > extent.newest) {
    return InvalidFields({{"attempt", 0, absl::StrCat("must be from 0 to ", extent.newest)}});
  }
  const bool ended = extent.Ended(position.attempt);
  const AttemptKey key{request.job_id(), position.attempt};
  ASSIGN_OR_RETURN(const std::vector<int> ranks, files_.LogRanks(key));
  Piece<v1::StreamLogsResponse> piece;
  for (const int rank : ranks) {
    if (request.ranks_size() > 0 && !std::ranges::count(request.ranks(), rank)) continue;
    int64_t& offset = position.offsets[rank];
    ASSIGN_OR_RETURN(std::string data, files_.ReadLog(key, rank, offset, kLogPiece));
    KeepWholeLines(!ended || static_cast<int64_t>(data.size()) == kLogPiece, data);
    if (data.empty()) continue;
    v1::StreamLogsResponse& response = piece.responses.emplace_back();
    response.set_attempt(position.attempt);
    response.set_rank(rank);
    response.set_offset(offset);
    offset += static_cast<int64_t>(data.size());
    response.set_data(std::move(data));
    response.set_cursor(position.ToText());
  }
  const bool goes_on = request.attempt() == 0 && request.follow();  // to later attempts
  if (piece.responses.empty() && ended && goes_on && position.attempt < extent.newest) {
    position = {position.attempt + 1, {}};
  } else if (piece.responses.empty()) {
    piece.at_end = true;
    piece.may_grow = !ended || (goes_on && !extent.terminal);
  }
  piece.cursor = position.ToText();
  return piece;
}

absl::StatusOr<History::Piece<v1::StreamMetricsResponse>> History::ReadMetrics(const std::string& job_id,
                                                                               const std::string& cursor,
                                                                               int max_responses) {
  ASSIGN_OR_RETURN(const Extent extent, ExtentOf(table_, job_id));
  MetricsCursor position;
  if (!cursor.empty()) {
    ASSIGN_OR_RETURN(position, MetricsCursor::Parse(cursor));
  }
  if (position.attempt > std::max(extent.newest, 1)) return BadCursor();
  int64_t superseded = std::numeric_limits<int64_t>::max();  // steps from here on were done again
  for (int later = position.attempt + 1; later <= extent.newest; ++later) {
    ASSIGN_OR_RETURN(const int64_t first, FirstStep(files_, {job_id, later}));
    superseded = std::min(superseded, first);
  }
  ASSIGN_OR_RETURN(const EventPage page, files_.ReadEvents({job_id, position.attempt}, EventFile::kSteps,
                                                           position.position, std::min(max_responses, kPage)));
  Piece<v1::StreamMetricsResponse> piece;
  for (size_t i = 0; i < page.events.size(); ++i) {
    std::optional<v1::StreamMetricsResponse> metrics = MetricsOf(page.events[i]);
    if (!metrics || StepOf(*metrics) >= superseded) continue;
    metrics->set_attempt(position.attempt);
    metrics->set_cursor(MetricsCursor{position.attempt, page.ends[i]}.ToText());
    piece.responses.push_back(*std::move(metrics));
  }
  position.position = page.next_position;
  if (page.at_end && position.attempt < extent.newest) {
    position = {position.attempt + 1, 0};
  } else if (page.at_end) {
    piece.at_end = true;
    piece.may_grow = !extent.terminal;
  }
  piece.cursor = position.ToText();
  return piece;
}

}  // namespace ithaca

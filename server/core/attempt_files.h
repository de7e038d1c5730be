#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ithaca {

// Which attempt of which job.
struct AttemptKey {
  std::string job_id;
  int number = 0;

  auto operator<=>(const AttemptKey&) const = default;
};

// First positions of a rank that are not stored yet.
struct RankPositions {
  int64_t event_offset = 0;
  int64_t log_offset = 0;
};

// A line an engine reported. `offset` is its position in that rank's stream of events; the next one's is at least
// offset + json.size() + 1.
struct EngineEventRecord {
  int rank = 0;
  int64_t offset = 0;
  std::string json;
};

// Which file of an attempt: steps and evaluations are apart from the rest, because they are many.
enum class EventFile { kSteps, kEvents };

// Lines from a position on, and where the next ones will be.
struct EventPage {
  std::vector<EngineEventRecord> events;
  std::vector<int64_t> ends;  // the position after each event
  int64_t next_position = 0;  // to go on from
  bool at_end = true;
};

// What engines reported, in append-only files of each attempt: the steps and events (one JSON line each), and the log
// of every rank. Nothing is synced record by record: after a power failure the tail may be missing, which workers send
// again. A last line without its end is ignored by readers and cut off before the next append. Thread-safe; one writer
// per attempt. RESOURCE_EXHAUSTED: the disk is full, and nothing of the call's failing record was kept.
class AttemptFiles {
 public:
  virtual ~AttemptFiles() = default;

  // <root>/jobs/<id>/attempts/<n>; made if it is not there.
  virtual absl::StatusOr<std::filesystem::path> MakeDirectory(const AttemptKey& key) = 0;
  // <root>/jobs/<id>; not made.
  virtual std::filesystem::path JobDirectory(const std::string& job_id) const = 0;

  // Returns whether the event was new; one that lies below what is stored of its rank is dropped.
  virtual absl::StatusOr<bool> AppendEvent(const AttemptKey& key, EventFile file, const EngineEventRecord& event) = 0;
  // Drops the part that is stored already. Bytes that were skipped read as zero.
  virtual absl::Status AppendLog(const AttemptKey& key, int rank, int64_t offset, std::string_view data) = 0;
  // What is stored, by rank.
  virtual absl::StatusOr<std::map<int, RankPositions>> Positions(const AttemptKey& key) = 0;

  // At most `max_events` from a position that an earlier page gave, or 0. An attempt without files has an empty page.
  virtual absl::StatusOr<EventPage> ReadEvents(const AttemptKey& key, EventFile file, int64_t position,
                                               int max_events) = 0;
  // At most `max_bytes` of a rank's log from `offset`; empty at the end.
  virtual absl::StatusOr<std::string> ReadLog(const AttemptKey& key, int rank, int64_t offset, int64_t max_bytes) = 0;
  // Ranks that have a log, in order.
  virtual absl::StatusOr<std::vector<int>> LogRanks(const AttemptKey& key) = 0;

  // Frees what is held open for an attempt that has ended.
  virtual void Close(const AttemptKey& key) = 0;
  // Removes the job's attempts; a `checkpoints` directory in it stays.
  virtual absl::Status RemoveJob(const std::string& job_id) = 0;
  // Ids of the jobs that have attempts here; only directories that are named as a coordinator names them.
  virtual absl::StatusOr<std::vector<std::string>> StoredJobs() = 0;
};

}  // namespace ithaca

#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/core/attempt_files.h"
#include "server/store/attempt_file_writer.h"

namespace ithaca {

// The attempts' files under a state directory:
//   jobs/<id>/attempts/<n>/{run.json, steps.jsonl, events.jsonl, rank-<r>.log}      jobs/<id>/checkpoints/
// Writers stay open until Close; readers open what they read. Thread-safe.
class DiskAttemptFiles : public AttemptFiles {
 public:
  explicit DiskAttemptFiles(std::filesystem::path root) : root_(std::move(root)) {}

  absl::StatusOr<std::filesystem::path> MakeDirectory(const AttemptKey& key) override;
  std::filesystem::path JobDirectory(const std::string& job_id) const override;
  absl::StatusOr<bool> AppendEvent(const AttemptKey& key, EventFile file, const EngineEventRecord& event) override;
  absl::Status AppendLog(const AttemptKey& key, int rank, int64_t offset, std::string_view data) override;
  absl::StatusOr<std::map<int, RankPositions>> Positions(const AttemptKey& key) override;
  absl::StatusOr<EventPage> ReadEvents(const AttemptKey& key, EventFile file, int64_t position,
                                       int max_events) override;
  absl::StatusOr<std::string> ReadLog(const AttemptKey& key, int rank, int64_t offset, int64_t max_bytes) override;
  absl::StatusOr<std::vector<int>> LogRanks(const AttemptKey& key) override;
  void Close(const AttemptKey& key) override;
  absl::Status RemoveJob(const std::string& job_id) override;
  absl::StatusOr<std::vector<std::string>> StoredJobs() override;

 private:
  std::filesystem::path Directory(const AttemptKey& key) const;
  absl::StatusOr<std::shared_ptr<AttemptFileWriter>> WriterOf(const AttemptKey& key);

  const std::filesystem::path root_;
  absl::Mutex mutex_;
  std::map<AttemptKey, std::shared_ptr<AttemptFileWriter>> writers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ithaca

#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "server/core/attempt_files.h"

namespace ithaca {

// Names of an attempt's files in its directory.
std::string EventFileName(EventFile file);  // "steps.jsonl", "events.jsonl"
std::string LogFileName(int rank);          // "rank-3.log"

// A file that only grows. Not thread-safe. A failed append leaves it as it was.
class GrowingFile {
 public:
  static absl::StatusOr<GrowingFile> Open(const std::filesystem::path& path);
  GrowingFile() = default;
  GrowingFile(GrowingFile&& other) noexcept;
  GrowingFile& operator=(GrowingFile&& other) noexcept;
  ~GrowingFile();

  int fd() const { return fd_; }
  int64_t size() const { return size_; }
  absl::Status Append(std::string_view data) { return WriteAt(size_, data); }
  absl::Status WriteAt(int64_t position, std::string_view data);  // position >= size(); a gap reads as zeros
  absl::Status CutTo(int64_t size);

 private:
  std::string path_;
  int fd_ = -1;
  int64_t size_ = 0;
};

// Appends to the files of one attempt and knows what they hold. Thread-safe; owned by DiskAttemptFiles while the
// attempt is open. It reads the files once when it is made, and cuts off a last line that a crash left without its end.
class AttemptFileWriter {
 public:
  static absl::StatusOr<std::unique_ptr<AttemptFileWriter>> Open(const std::filesystem::path& directory);

  absl::StatusOr<bool> AppendEvent(EventFile file, const EngineEventRecord& event);
  absl::Status AppendLog(int rank, int64_t offset, std::string_view data);
  std::map<int, RankPositions> Positions();

 private:
  explicit AttemptFileWriter(const std::filesystem::path& directory) : directory_(directory) {}
  absl::Status Recover() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<GrowingFile*> FileOf(const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::filesystem::path directory_;
  absl::Mutex mutex_;
  std::map<std::string, GrowingFile> files_ ABSL_GUARDED_BY(mutex_);  // by name
  std::map<int, RankPositions> positions_ ABSL_GUARDED_BY(mutex_);
};

// Ranks that have a log in the directory, in order.
absl::StatusOr<std::vector<int>> RanksWithLogs(const std::filesystem::path& directory);

}  // namespace ithaca

#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/core/attempt_files.h"

namespace ithaca {

// Other files, with a hook: the test acts, or an error comes, at a moment it could not hit otherwise.
class HookedFiles : public AttemptFiles {
 public:
  explicit HookedFiles(AttemptFiles& files) : files_(files) {}

  std::function<void()> after_append;  // called once, when the next event has been stored
  absl::Status fail_remove;            // RemoveJob fails with it while it is not OK
  int closed = 0;                      // calls of Close

  absl::StatusOr<std::filesystem::path> MakeDirectory(const AttemptKey& key) override {
    return files_.MakeDirectory(key);
  }
  std::filesystem::path JobDirectory(const std::string& job_id) const override { return files_.JobDirectory(job_id); }
  absl::StatusOr<bool> AppendEvent(const AttemptKey& key, EventFile file, const EngineEventRecord& event) override {
    const absl::StatusOr<bool> appended = files_.AppendEvent(key, file, event);
    if (const auto hook = std::exchange(after_append, nullptr)) hook();
    return appended;
  }
  absl::Status AppendLog(const AttemptKey& key, int rank, int64_t offset, std::string_view data) override {
    return files_.AppendLog(key, rank, offset, data);
  }
  absl::StatusOr<std::map<int, RankPositions>> Positions(const AttemptKey& key) override {
    return files_.Positions(key);
  }
  absl::StatusOr<EventPage> ReadEvents(const AttemptKey& key, EventFile file, int64_t position,
                                       int max_events) override {
    return files_.ReadEvents(key, file, position, max_events);
  }
  absl::StatusOr<std::string> ReadLog(const AttemptKey& key, int rank, int64_t offset, int64_t max_bytes) override {
    return files_.ReadLog(key, rank, offset, max_bytes);
  }
  absl::StatusOr<std::vector<int>> LogRanks(const AttemptKey& key) override { return files_.LogRanks(key); }
  void Close(const AttemptKey& key) override {
    ++closed;
    files_.Close(key);
  }
  absl::Status RemoveJob(const std::string& job_id) override {
    return fail_remove.ok() ? files_.RemoveJob(job_id) : fail_remove;
  }
  absl::StatusOr<std::vector<std::string>> StoredJobs() override { return files_.StoredJobs(); }

 private:
  AttemptFiles& files_;
};

}  // namespace ithaca

#include "server/store/memory_store.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_cat.h"

namespace ithaca {

absl::Status MemoryStore::Commit(WriteBatch batch) {
  absl::MutexLock lock(&mutex_);
  if (!failure_.ok()) return failure_;
  for (const RequestKey& key : batch.request_keys) {
    if (request_keys_.contains({key.owner, key.request_id})) {
      return absl::AlreadyExistsError(absl::StrCat("request key ", key.request_id));
    }
  }
  for (JobRecord& job : batch.jobs) jobs_[job.job.id()] = job;
  for (AttemptRecord& attempt : batch.attempts) attempts_[{attempt.job_id, attempt.number}] = attempt;
  for (StateEvent& event : batch.events) events_[{event.job_id, event.number}] = event;
  for (CheckpointRecord& record : batch.checkpoints) {
    checkpoints_[{record.job_id, record.checkpoint.step(), record.is_export}] = record;
  }
  for (RequestKey& key : batch.request_keys) request_keys_[{key.owner, key.request_id}] = key;
  for (const std::string& id : batch.deleted_jobs) {
    jobs_.erase(id);
    std::erase_if(attempts_, [&](const auto& row) { return row.second.job_id == id; });
    std::erase_if(events_, [&](const auto& row) { return row.second.job_id == id; });
    std::erase_if(checkpoints_, [&](const auto& row) { return row.second.job_id == id; });
    std::erase_if(request_keys_, [&](const auto& row) { return row.second.job_id == id; });
  }
  ++commits_;
  return absl::OkStatus();
}

absl::StatusOr<StoreContents> MemoryStore::Load() {
  absl::MutexLock lock(&mutex_);
  StoreContents contents;
  for (const auto& [id, job] : jobs_) contents.jobs.push_back(job);
  std::ranges::sort(contents.jobs, {}, &JobRecord::sequence);
  for (const auto& [key, attempt] : attempts_) contents.attempts.push_back(attempt);
  for (const auto& [key, event] : events_) contents.events.push_back(event);
  for (const auto& [key, record] : checkpoints_) contents.checkpoints.push_back(record);
  for (const auto& [key, request] : request_keys_) contents.request_keys.push_back(request);
  return contents;
}

void MemoryStore::FailWith(absl::Status status) {
  absl::MutexLock lock(&mutex_);
  failure_ = std::move(status);
}

int MemoryStore::commits() const {
  absl::MutexLock lock(&mutex_);
  return commits_;
}

}  // namespace ithaca

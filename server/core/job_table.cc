#include "server/core/job_table.h"

#include <algorithm>
#include <random>

#include "absl/strings/str_cat.h"
#include "proto/errors.h"
#include "proto/status_macros.h"
#include "server/core/job_edit.h"

namespace ithaca {
namespace {

absl::Status JobNotFound(const std::string& job_id) {
  return MakeError(absl::StatusCode::kNotFound, "JOB_NOT_FOUND", absl::StrCat("there is no job ", job_id),
                   {{"job_id", job_id}});
}

absl::Status Fenced(const AttemptKey& key) {
  return MakeError(absl::StatusCode::kFailedPrecondition, "ATTEMPT_FENCED",
                   absl::StrCat("attempt ", key.number, " of job ", key.job_id, " is over"), {{"job_id", key.job_id}});
}

bool SameState(const v1::Job& a, const v1::Job& b) {
  return a.state() == b.state() && a.reason() == b.reason() && a.blame() == b.blame() && a.message() == b.message();
}

bool Has(const std::vector<CheckpointRecord>& checkpoints, const CheckpointRecord& wanted) {
  return std::ranges::any_of(checkpoints, [&](const CheckpointRecord& old) { return SameCheckpoint(old, wanted); });
}

// A deletion that failed, or was cut short, between the rows and the files left these. A store that knows no job is
// more likely a new one beside old files than one whose jobs were all deleted: then nothing is removed.
absl::Status RemoveOrphans(const std::map<std::string, JobEntry>& jobs, AttemptFiles& files) {
  if (jobs.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<std::string> stored, files.StoredJobs());
  for (const std::string& id : stored) {
    if (!jobs.contains(id)) (void)files.RemoveJob(id);  // the next start tries again
  }
  return absl::OkStatus();
}

}  // namespace

AttemptRecord* JobEntry::newest() { return attempts.empty() ? nullptr : &attempts.rbegin()->second; }

const AttemptRecord* JobEntry::newest() const { return attempts.empty() ? nullptr : &attempts.rbegin()->second; }

JobTable::JobTable(Store& store, AttemptFiles& files, const Clock& clock, std::vector<Node> nodes)
    : store_(store), files_(files), clock_(clock), nodes_(std::move(nodes)) {
  std::random_device random;
  epoch_ = absl::StrCat(absl::Hex(random(), absl::kZeroPad8), absl::Hex(random(), absl::kZeroPad8));
}

absl::Status JobTable::Recover() {
  ASSIGN_OR_RETURN(StoreContents contents, store_.Load());
  absl::MutexLock lock(&mutex_);
  WriteBatch batch;
  batch.jobs = std::move(contents.jobs);
  batch.attempts = std::move(contents.attempts);
  batch.events = std::move(contents.events);
  batch.checkpoints = std::move(contents.checkpoints);
  batch.request_keys = std::move(contents.request_keys);
  Apply(batch);
  for (auto& [id, entry] : jobs_) {
    if (HoldsSlots(entry.record.job.state())) RETURN_IF_ERROR(Replay(entry));
  }
  return RemoveOrphans(jobs_, files_);
}

absl::Status JobTable::Replay(JobEntry& entry) {
  constexpr int kPage = 4096;
  const AttemptRecord& attempt = *entry.newest();
  const AttemptKey key{attempt.job_id, attempt.number};
  const absl::Time now = clock_.Now();
  entry.live = NewLiveState(attempt.placement, now);
  for (WorkerLive& worker : entry.live.workers) worker.detached = now;
  for (const EventFile file : {EventFile::kEvents, EventFile::kSteps}) {
    EventPage page;
    do {
      ASSIGN_OR_RETURN(page, files_.ReadEvents(key, file, page.next_position, kPage));
      for (const EngineEventRecord& event : page.events) {
        std::optional<CheckpointRecord> checkpoint = ApplyEvent(key, event, entry.live);
        if (checkpoint && !Has(entry.checkpoints, *checkpoint)) {
          entry.live.unsaved_checkpoints.push_back(*std::move(checkpoint));
        }
      }
    } while (!page.at_end);
  }
  // Silence counts from now on.
  for (RankLive& rank : entry.live.ranks) {
    if (rank.ready) rank.last_heard = now;
  }
  return absl::OkStatus();
}

// --- Reading ---------------------------------------------------------------------------------------------------------

absl::StatusOr<JobEntry*> JobTable::Find(const std::string& job_id) {
  const auto found = jobs_.find(job_id);
  if (found == jobs_.end()) return JobNotFound(job_id);
  return &found->second;
}

absl::StatusOr<const JobEntry*> JobTable::Find(const std::string& job_id) const {
  const auto found = jobs_.find(job_id);
  if (found == jobs_.end()) return JobNotFound(job_id);
  return &found->second;
}

absl::StatusOr<v1::Job> JobTable::Get(const std::string& job_id) const {
  absl::MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(const JobEntry* entry, Find(job_id));
  return Compose(*entry);
}

absl::Status JobTable::Read(const std::string& job_id, absl::FunctionRef<void(const JobEntry&)> read) const {
  absl::MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(const JobEntry* entry, Find(job_id));
  read(*entry);
  return absl::OkStatus();
}

void JobTable::ReadDown(int64_t before, absl::FunctionRef<bool(const JobEntry&)> take) const {
  absl::MutexLock lock(&mutex_);
  auto next = by_sequence_.lower_bound(before);
  while (next != by_sequence_.begin()) {
    --next;
    if (!take(jobs_.at(next->second))) return;
  }
}

std::optional<RequestKey> JobTable::FindRequest(const std::string& owner, const std::string& request_id) const {
  absl::MutexLock lock(&mutex_);
  const auto found = requests_.find({owner, request_id});
  if (found == requests_.end()) return std::nullopt;
  return found->second;
}

// --- Changing --------------------------------------------------------------------------------------------------------

absl::StatusOr<v1::Job> JobTable::Insert(JobRecord record, const std::optional<RequestKey>& key) {
  WriteBatch batch;
  const RequestId id = key ? RequestId(key->owner, key->request_id) : RequestId();
  {
    absl::MutexLock lock(&mutex_);
    if (key) {
      const auto settled = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return !requests_in_flight_.contains(id); };
      mutex_.Await(absl::Condition(&settled));
      if (const auto found = requests_.find(id); found != requests_.end()) {
        ASSIGN_OR_RETURN(const JobEntry* entry, Find(found->second.job_id));
        return Compose(*entry);
      }
      requests_in_flight_.insert(id);
      batch.request_keys.push_back(*key);
    }
    record.sequence = next_sequence_++;
  }
  const absl::Time now = clock_.Now();
  *record.job.mutable_create_time() = ToProtoTime(now);
  *record.job.mutable_update_time() = ToProtoTime(now);
  record.job.set_etag("1");
  batch.events.push_back({record.job.id(), 1, now, 0, record.job.state(), {}});
  const std::string job_id = record.job.id();
  batch.jobs.push_back(std::move(record));
  const absl::Status committed = store_.Commit(batch);

  absl::MutexLock lock(&mutex_);
  requests_in_flight_.erase(id);
  RETURN_IF_ERROR(committed);
  Apply(batch);
  woken_ = true;
  return Compose(jobs_.at(job_id));
}

absl::StatusOr<JobChange> JobTable::Copy(const std::string& job_id) const {
  absl::MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(const JobEntry* entry, Find(job_id));
  JobChange change{entry->record, std::nullopt, {}};
  if (entry->newest() != nullptr) change.attempt = *entry->newest();
  return change;
}

absl::StatusOr<v1::Job> JobTable::Update(const std::string& job_id, absl::FunctionRef<absl::Status(JobChange&)> edit) {
  absl::MutexLock changing(&change_mutex_);
  ASSIGN_OR_RETURN(JobChange change, Copy(job_id));
  const v1::Job before = change.job.job;
  RETURN_IF_ERROR(edit(change));
  if (change.unchanged) return Get(job_id);

  WriteBatch batch;
  const absl::Time now = clock_.Now();
  v1::Job& job = change.job.job;
  if (job.state() != before.state()) RETURN_IF_ERROR(CheckTransition(before.state(), job.state()));
  job.set_etag(absl::StrCat(std::stoll(before.etag()) + 1));
  *job.mutable_update_time() = ToProtoTime(now);
  if (!SameState(before, job)) {
    absl::MutexLock lock(&mutex_);
    const auto number = static_cast<int64_t>(jobs_.at(job_id).events.size()) + 1;
    batch.events.push_back(
        {job_id, number, now, job.attempt(), job.state(), {job.reason(), job.blame(), job.message()}});
  }
  batch.jobs.push_back(std::move(change.job));
  if (change.attempt) batch.attempts.push_back(*std::move(change.attempt));
  batch.checkpoints = std::move(change.checkpoints);
  RETURN_IF_ERROR(store_.Commit(batch));

  absl::MutexLock lock(&mutex_);
  Apply(batch);
  woken_ = true;
  return Compose(jobs_.at(job_id));
}

absl::Status JobTable::Remove(const std::string& job_id, absl::FunctionRef<absl::Status(const JobRecord&)> check) {
  absl::MutexLock changing(&change_mutex_);
  ASSIGN_OR_RETURN(const JobChange change, Copy(job_id));
  RETURN_IF_ERROR(check(change.job));
  WriteBatch batch;
  batch.deleted_jobs.push_back(job_id);
  RETURN_IF_ERROR(store_.Commit(batch));
  absl::MutexLock lock(&mutex_);
  Apply(batch);
  return absl::OkStatus();
}

void JobTable::Apply(const WriteBatch& batch) {
  for (const JobRecord& record : batch.jobs) {
    jobs_[record.job.id()].record = record;
    Index(record);
  }
  for (const AttemptRecord& attempt : batch.attempts) {
    JobEntry& entry = jobs_[attempt.job_id];
    const bool opened = !entry.attempts.contains(attempt.number);
    entry.attempts[attempt.number] = attempt;
    if (opened) entry.live = NewLiveState(attempt.placement, clock_.Now());
    if (!attempt.ended()) continue;
    for (WorkerLive& worker : entry.live.workers) worker.link.reset();
  }
  for (const StateEvent& event : batch.events) jobs_[event.job_id].events.push_back(event);
  for (const CheckpointRecord& record : batch.checkpoints) {
    std::vector<CheckpointRecord>& checkpoints = jobs_[record.job_id].checkpoints;
    std::erase_if(checkpoints, [&](const CheckpointRecord& old) {
      return old.is_export == record.is_export && old.checkpoint.step() == record.checkpoint.step();
    });
    checkpoints.push_back(record);
  }
  for (const RequestKey& key : batch.request_keys) requests_[{key.owner, key.request_id}] = key;
  for (const JobRecord& record : batch.jobs) Bump(jobs_[record.job.id()], /*job_changed=*/true);
  for (const std::string& id : batch.deleted_jobs) {
    Bump(jobs_[id], /*job_changed=*/true);
    by_sequence_.erase(jobs_[id].record.sequence);
    unfinished_.erase(id);
    std::erase_if(requests_, [&](const auto& request) { return request.second.job_id == id; });
    jobs_.erase(id);
  }
}

void JobTable::Index(const JobRecord& record) {
  by_sequence_[record.sequence] = record.job.id();
  next_sequence_ = std::max(next_sequence_, record.sequence + 1);
  if (IsTerminal(record.job.state())) {
    unfinished_.erase(record.job.id());
  } else {
    unfinished_.insert(record.job.id());
  }
}

absl::Status JobTable::WithLive(const AttemptKey& key, absl::FunctionRef<absl::Status(JobEntry&)> edit) {
  absl::MutexLock lock(&mutex_);
  const auto found = jobs_.find(key.job_id);
  if (found == jobs_.end()) return Fenced(key);
  JobEntry& entry = found->second;
  const AttemptRecord* newest = entry.newest();
  if (newest == nullptr || newest->number != key.number || newest->ended()) return Fenced(key);
  RETURN_IF_ERROR(edit(entry));
  Bump(entry, /*job_changed=*/true);
  return absl::OkStatus();
}

void JobTable::ForEachOpen(absl::FunctionRef<void(JobEntry&)> edit) {
  absl::MutexLock lock(&mutex_);
  for (const std::string& id : unfinished_) {
    JobEntry& entry = jobs_.at(id);
    if (HoldsSlots(entry.record.job.state())) edit(entry);
  }
}

void JobTable::SetQueueCauses(const std::map<std::string, Cause>& causes) {
  absl::MutexLock lock(&mutex_);
  for (const auto& [id, cause] : causes) {
    const auto found = jobs_.find(id);
    if (found == jobs_.end()) continue;
    Cause& old = found->second.queue_cause;
    if (old.reason == cause.reason && old.message == cause.message) continue;
    old = cause;
    Bump(found->second, /*job_changed=*/true);
  }
}

// --- Waiting ---------------------------------------------------------------------------------------------------------

void JobTable::WaitForWake(absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithDeadline(absl::Condition(&woken_), deadline);
  woken_ = false;
}

void JobTable::Wake() {
  absl::MutexLock lock(&mutex_);
  woken_ = true;
}

uint64_t JobTable::Activity(const std::string& job_id) const {
  absl::MutexLock lock(&mutex_);
  const auto found = jobs_.find(job_id);
  return found == jobs_.end() ? 0 : found->second.activity;
}

uint64_t JobTable::WaitForActivity(const std::string& job_id, uint64_t seen, absl::Duration timeout) const {
  absl::MutexLock lock(&mutex_);
  uint64_t activity = 0;
  const auto moved = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    const auto found = jobs_.find(job_id);
    activity = found == jobs_.end() ? 0 : found->second.activity;
    return activity != seen || activity == 0;
  };
  mutex_.AwaitWithTimeout(absl::Condition(&moved), timeout);
  return activity;
}

std::shared_ptr<void> JobTable::Subscribe(const std::string& job_id, std::function<void()> changed) {
  absl::MutexLock lock(&mutex_);
  const uint64_t id = next_subscriber_++;
  subscribers_[id] = {job_id, std::move(changed)};
  return std::shared_ptr<void>(nullptr, [this, id](void*) {
    absl::MutexLock lock(&mutex_);
    subscribers_.erase(id);
  });
}

void JobTable::Bump(JobEntry& entry, bool job_changed) {
  if (job_changed) ++entry.version;
  ++entry.activity;
  for (const auto& [id, subscriber] : subscribers_) {
    if (subscriber.job_id == entry.record.job.id()) subscriber.changed();
  }
}

}  // namespace ithaca

#include "worker/agent/spool.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ithaca {
namespace {

constexpr int64_t kBatchBytes = 2 << 20;
constexpr int64_t kLogChunkBytes = 256 << 10;
constexpr int64_t kMaxEventBytes = 1 << 20;
constexpr int64_t kReleaseBytes = 4 << 20;
constexpr int64_t kKeptTailBytes = 256 << 10;

std::string ReadAt(int fd, int64_t offset, int64_t size) {
  std::string bytes(static_cast<size_t>(size), '\0');
  const ssize_t n = ::pread(fd, bytes.data(), bytes.size(), offset);
  bytes.resize(n > 0 ? static_cast<size_t>(n) : 0);
  return bytes;
}

bool AppendAll(int fd, const std::string& bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::write(fd, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}

}  // namespace

Spool::Spool(std::string directory) : directory_(std::move(directory)) {}

Spool::~Spool() {
  for (auto& [number, rank] : ranks_) {
    ::close(rank.events.fd);
    ::close(rank.log.fd);
  }
}

std::string Spool::LogPath(int rank) const { return absl::StrCat(directory_, "/rank-", rank, ".log"); }

absl::Status Spool::AddRank(int rank) {
  const std::string events = absl::StrCat(directory_, "/rank-", rank, ".events");
  Rank files;
  files.events.fd = ::open(events.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (files.events.fd < 0) return absl::UnavailableError(absl::StrCat("cannot write ", events, ": ", strerror(errno)));
  files.log.fd = ::open(LogPath(rank).c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (files.log.fd < 0) {
    ::close(files.events.fd);
    return absl::UnavailableError(absl::StrCat("cannot write ", LogPath(rank), ": ", strerror(errno)));
  }
  absl::MutexLock lock(&mutex_);
  ranks_[rank] = files;
  return absl::OkStatus();
}

void Spool::AppendEvent(int rank, const std::string& json) {
  absl::MutexLock lock(&mutex_);
  const auto found = ranks_.find(rank);
  if (found == ranks_.end()) return;
  Stream& events = found->second.events;
  if (static_cast<int64_t>(json.size()) > kMaxEventBytes) {
    ++dropped_events_;
    return;
  }
  if (!AppendAll(events.fd, json + "\n")) {
    // Whatever part of the line was written goes, so that offsets and lines stay whole.
    (void)!::ftruncate(events.fd, events.written);
    ::lseek(events.fd, events.written, SEEK_SET);
    ++dropped_events_;
    return;
  }
  events.written += static_cast<int64_t>(json.size()) + 1;
}

void Spool::SetHeartbeat(v1::Heartbeat heartbeat) {
  absl::MutexLock lock(&mutex_);
  const int rank = heartbeat.rank();
  heartbeats_[rank] = std::move(heartbeat);
}

void Spool::RefreshLogSizes() {
  for (auto& [number, rank] : ranks_) {
    struct stat status;
    if (::fstat(rank.log.fd, &status) == 0) rank.log.written = std::max<int64_t>(rank.log.written, status.st_size);
  }
}

void Spool::TakeEvents(int rank, Stream* stream, int64_t* budget, v1::Batch* batch) {
  while (stream->sent<stream->written&& * budget> 0) {
    // At least one whole line is in what is read, since lines are shorter than this.
    const int64_t size = std::min(stream->written - stream->sent, kMaxEventBytes + 1);
    const std::string bytes = ReadAt(stream->fd, stream->sent, size);
    size_t start = 0;
    for (size_t end; *budget > 0 && (end = bytes.find('\n', start)) != std::string::npos; start = end + 1) {
      v1::EngineEvent* event = batch->add_events();
      event->set_rank(rank);
      event->set_offset(stream->sent + static_cast<int64_t>(start));
      event->set_json(bytes.substr(start, end - start));
      *budget -= static_cast<int64_t>(end - start) + 24;
    }
    if (start == 0) return;
    stream->sent += static_cast<int64_t>(start);
  }
}

void Spool::TakeLog(int rank, Stream* stream, int64_t* budget, v1::Batch* batch) {
  while (stream->sent<stream->written&& * budget> 0) {
    const std::string bytes =
        ReadAt(stream->fd, stream->sent, std::min({stream->written - stream->sent, kLogChunkBytes, *budget}));
    if (bytes.empty()) return;
    v1::LogChunk* chunk = batch->add_logs();
    chunk->set_rank(rank);
    chunk->set_offset(stream->sent);
    chunk->set_data(bytes);
    stream->sent += static_cast<int64_t>(bytes.size());
    *budget -= static_cast<int64_t>(bytes.size()) + 24;
  }
}

bool Spool::TakeBatch(v1::Batch* batch) {
  batch->Clear();
  absl::MutexLock lock(&mutex_);
  RefreshLogSizes();
  int64_t budget = kBatchBytes;
  for (auto& [number, rank] : ranks_) {
    TakeEvents(number, &rank.events, &budget, batch);
    TakeLog(number, &rank.log, &budget, batch);
  }
  for (auto& [number, heartbeat] : heartbeats_) batch->add_heartbeats()->Swap(&heartbeat);
  heartbeats_.clear();
  return batch->events_size() + batch->logs_size() + batch->heartbeats_size() > 0;
}

bool Spool::AllSent() {
  absl::MutexLock lock(&mutex_);
  RefreshLogSizes();
  return std::all_of(ranks_.begin(), ranks_.end(), [](const auto& entry) {
    return entry.second.events.sent == entry.second.events.written && entry.second.log.sent == entry.second.log.written;
  });
}

bool Spool::AllAcknowledged() {
  absl::MutexLock lock(&mutex_);
  RefreshLogSizes();
  return std::all_of(ranks_.begin(), ranks_.end(), [](const auto& entry) {
    return entry.second.events.acknowledged == entry.second.events.written &&
           entry.second.log.acknowledged == entry.second.log.written;
  });
}

void Spool::Acknowledge(Stream* stream, int64_t offset) {
  stream->acknowledged = std::clamp(offset, stream->acknowledged, stream->written);
  stream->sent = std::max(stream->sent, stream->acknowledged);
  const int64_t release = (stream->acknowledged - kKeptTailBytes) / 4096 * 4096;
  if (release - stream->released < kReleaseBytes) return;
  ::fallocate(stream->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, stream->released, release - stream->released);
  stream->released = release;
}

void Spool::Acknowledge(const v1::Ack& ack) {
  absl::MutexLock lock(&mutex_);
  for (const v1::RankOffsets& offsets : ack.ranks()) {
    const auto found = ranks_.find(offsets.rank());
    if (found == ranks_.end()) continue;
    Acknowledge(&found->second.events, offsets.event_offset());
    Acknowledge(&found->second.log, offsets.log_offset());
  }
}

void Spool::Rewind() {
  absl::MutexLock lock(&mutex_);
  for (auto& [number, rank] : ranks_) {
    rank.events.sent = rank.events.acknowledged;
    rank.log.sent = rank.log.acknowledged;
  }
}

int64_t Spool::dropped_events() {
  absl::MutexLock lock(&mutex_);
  return dropped_events_;
}

}  // namespace ithaca

#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "ithaca/v1/worker_service.pb.h"

namespace ithaca {

// What the engines of a worker reported and the coordinator has not stored yet. Records lie in files of the worker's
// directory (rank-N.events, and rank-N.log which the engine writes itself), so memory stays bounded however long the
// coordinator is away; what is acknowledged gives its disk space back, while offsets keep their meaning. Heartbeats are
// only ever the newest one. Owned by the agent; its main thread appends, its link's thread sends; all methods are safe
// from both. An event that cannot be written (full disk) is dropped and counted: training matters more.
class Spool {
 public:
  explicit Spool(std::string directory);
  ~Spool();

  // Starts the files of a rank. UNAVAILABLE when they cannot be made.
  absl::Status AddRank(int rank);
  // Where that rank's engine appends its stdout and stderr.
  std::string LogPath(int rank) const;

  // Adds one event: a JSON object without its newline, at most 1 MiB.
  void AppendEvent(int rank, const std::string& json);
  void SetHeartbeat(v1::Heartbeat heartbeat);

  // The next records that were not sent on this stream, at most about 2 MiB of them, and new heartbeats. False when
  // there is nothing to send.
  bool TakeBatch(v1::Batch* batch);
  // Whether TakeBatch has handed out every record.
  bool AllSent();
  // Whether every record is stored by the coordinator.
  bool AllAcknowledged();

  void Acknowledge(const v1::Ack& ack);
  // A new stream begins: what is not acknowledged will be sent again.
  void Rewind();

  int64_t dropped_events();

 private:
  // An append-only file, read from `sent` on, needed from `acknowledged` on.
  struct Stream {
    int fd = -1;
    int64_t written = 0;
    int64_t sent = 0;
    int64_t acknowledged = 0;
    int64_t released = 0;  // disk space before this was given back
  };
  struct Rank {
    Stream events, log;
  };

  static void Acknowledge(Stream* stream, int64_t offset);
  static void TakeEvents(int rank, Stream* stream, int64_t* budget, v1::Batch* batch);
  static void TakeLog(int rank, Stream* stream, int64_t* budget, v1::Batch* batch);
  void RefreshLogSizes() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string directory_;
  absl::Mutex mutex_;
  std::map<int, Rank> ranks_ ABSL_GUARDED_BY(mutex_);
  std::map<int, v1::Heartbeat> heartbeats_ ABSL_GUARDED_BY(mutex_);
  int64_t dropped_events_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace ithaca

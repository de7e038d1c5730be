#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/core/records.h"

namespace ithaca {

// Rows to write together. Jobs and attempts replace those with the same key; the rest is new.
struct WriteBatch {
  std::vector<JobRecord> jobs;
  std::vector<AttemptRecord> attempts;
  std::vector<StateEvent> events;
  std::vector<CheckpointRecord> checkpoints;  // replace those of the same job, step and kind
  std::vector<RequestKey> request_keys;       // ALREADY_EXISTS if one is there
  std::vector<std::string> deleted_jobs;      // with all their rows, request keys included
};

// Everything stored.
struct StoreContents {
  std::vector<JobRecord> jobs;          // by sequence
  std::vector<AttemptRecord> attempts;  // by job and number
  std::vector<StateEvent> events;       // by job and number
  std::vector<CheckpointRecord> checkpoints;
  std::vector<RequestKey> request_keys;
};

// Durable state of the coordinator: jobs, attempts, history, request ids, checkpoints. Thread-safe: any number of
// threads may commit; their batches are written in groups. Outlives the JobTable. Implementations in server/store.
class Store {
 public:
  virtual ~Store() = default;

  // All of the batch or nothing; blocks until it is durable. After an error the batch counts as not written: the caller
  // keeps its old state and may try again. RESOURCE_EXHAUSTED: the disk is full; UNAVAILABLE: I/O failed;
  // ALREADY_EXISTS: a request key is taken.
  virtual absl::Status Commit(WriteBatch batch) = 0;

  virtual absl::StatusOr<StoreContents> Load() = 0;
};

}  // namespace ithaca

#pragma once

namespace ithaca::plan {

// How an ithaca-engine process ends; the exit status of the process and the `code` of its `failed` event.
enum class ExitCode {
  kDone = 0,
  kInvalidConfig = 10,  // run.json is wrong, unsupported, or does not fit in memory
  kInvalidData = 11,    // a corpus file is missing, empty or has a bad line
  kInvalidModel = 12,   // the model directory is incomplete, inconsistent or of an unsupported family
  kGpuOutOfMemory = 20,
  kHostOutOfMemory = 21,
  kCollectiveFailed = 30,  // a collective returned an error or timed out
  kPeerLost = 31,          // a rank of the group is gone
  kCheckpointIo = 40,      // a checkpoint or an export could not be written or read
  kLossNotFinite = 50,
  kInternal = 70,
  kStopped = 75,  // stopped on request; state saved if the job has a checkpoint.directory
};

}  // namespace ithaca::plan

#pragma once

#include "absl/status/status.h"

namespace ithaca::client {

// How `ithaca` ends; listed in `ithaca --help`.
enum class ExitCode {
  kOk = 0,            // done; watch: the job SUCCEEDED
  kError = 1,         // anything not named below
  kUsage = 2,         // the command line is wrong
  kInvalidJob = 3,    // the job file or the request has mistakes
  kDoesNotFit = 4,    // the job does not fit in memory
  kNotFound = 5,      // no such job, or a file to read is missing
  kUnreachable = 6,   // the coordinator does not answer
  kRefused = 7,       // not in this state, or somebody else changed the job first
  kJobFailed = 10,    // watch: the job FAILED
  kJobCancelled = 11  // watch: the job was CANCELLED
};

// The code for a status that is not OK.
ExitCode ExitCodeOf(const absl::Status& status);

}  // namespace ithaca::client

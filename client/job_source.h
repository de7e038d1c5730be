#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "client/verbs.h"
#include "ithaca/v1/job.pb.h"

namespace ithaca::client {

// A job as it is sent: read, checked, with absolute paths.
struct LoadedJob {
  v1::JobSpec spec;
  std::string model_config_json;  // the model's config.json; empty if it cannot be read here
};

// Reads the job file (or `input` for "-"), applies the overrides, and makes relative paths absolute from the current
// directory. INVALID_ARGUMENT with one line for every mistake, NOT_FOUND if there is no such file.
absl::StatusOr<LoadedJob> LoadJob(const JobSource& source, std::istream& input);

}  // namespace ithaca::client

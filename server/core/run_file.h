#pragma once

#include <filesystem>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ithaca/v1/worker_service.pb.h"
#include "server/core/records.h"

namespace ithaca {

// run.json in the directory of an attempt. Written under another name first, so that it is whole or not there.
absl::Status WriteRunFile(const std::filesystem::path& directory, const std::string& run_json);
absl::StatusOr<std::string> ReadRunFile(const std::filesystem::path& directory);

// What workers of a STOPPING job are told.
v1::CoordinatorMessage StopOf(const JobRecord& job);

}  // namespace ithaca

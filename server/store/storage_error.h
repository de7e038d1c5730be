#pragma once

#include <string>

#include "absl/status/status.h"

namespace ithaca {

// An error of the disk or the database, with the reason that tells a caller that the coordinator itself answered:
// STORAGE_FULL, STORAGE_DAMAGED or STORAGE_FAILED, by the code.
absl::Status StorageError(absl::StatusCode code, const std::string& message);

}  // namespace ithaca

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "worker/plan/problem.h"

namespace ithaca {

// Statuses with the details that the public contract promises, as payloads under the type URLs of google.rpc.ErrorInfo
// (domain "ithaca") and google.rpc.BadRequest, which server/rpc copies into the answer.
absl::Status ErrorWithReason(absl::StatusCode code, std::string_view reason, std::string_view message);

// INVALID_ARGUMENT with every problem as a field violation; the message lists them, one a line.
absl::Status BadFields(std::string_view summary, const plan::Problems& problems);

// NOT_FOUND, reason JOB_NOT_FOUND.
absl::Status JobNotFound(std::string_view job_id);

}  // namespace ithaca

#pragma once

#include <map>
#include <string>

#include "absl/status/status.h"
#include "proto/field_mistake.h"

// Errors of the contract as absl::Status: the canonical code, a sentence, and the details that google.rpc has for it as
// payloads. proto/grpc_status.h carries them over gRPC and back.
namespace ithaca {

inline constexpr char kErrorDomain[] = "ithaca";

// A status with a google.rpc.ErrorInfo. `reason` is UPPER_SNAKE, such as "JOB_NOT_FOUND".
absl::Status MakeError(absl::StatusCode code, const std::string& reason, const std::string& message,
                       const std::map<std::string, std::string>& metadata = {});

// INVALID_ARGUMENT with all mistakes in one google.rpc.BadRequest, reason INVALID_FIELDS; the message names them, too.
absl::Status InvalidFields(const FieldMistakes& mistakes);

// The reason of a status made by MakeError or received over gRPC; empty if it has none of our domain.
std::string ReasonOf(const absl::Status& status);

// The mistakes of a status made by InvalidFields or received over gRPC. Lines are 0.
FieldMistakes MistakesOf(const absl::Status& status);

}  // namespace ithaca

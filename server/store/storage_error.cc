#include "server/store/storage_error.h"

#include "proto/errors.h"

namespace ithaca {

absl::Status StorageError(absl::StatusCode code, const std::string& message) {
  switch (code) {
    case absl::StatusCode::kResourceExhausted:
      return MakeError(code, "STORAGE_FULL", message);
    case absl::StatusCode::kDataLoss:
      return MakeError(code, "STORAGE_DAMAGED", message);
    default:
      return MakeError(code, "STORAGE_FAILED", message);
  }
}

}  // namespace ithaca

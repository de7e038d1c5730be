#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace ithaca {

// The status as gRPC sends it: payloads of type google.* become the details of a google.rpc.Status.
grpc::Status ToGrpcStatus(const absl::Status& status);

// The inverse, for callers. Details that cannot be read are dropped, the code and the message stay.
absl::Status FromGrpcStatus(const grpc::Status& status);

}  // namespace ithaca

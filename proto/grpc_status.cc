#include "proto/grpc_status.h"

#include <algorithm>
#include <string>

#include "absl/strings/cord.h"
#include "google/rpc/status.pb.h"
#include "proto/shortened.h"

namespace ithaca {
namespace {

// HTTP/2 peers limit headers to 8 KiB by default, and gRPC sends message and details (which repeat it) as such.
constexpr size_t kMaxStatusBytes = 2048;
constexpr size_t kMaxDetailsBytes = 4096;

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  google::rpc::Status details;
  details.set_code(static_cast<int>(status.code()));
  const std::string message = Shortened(std::string(status.message()), kMaxStatusBytes);
  status.ForEachPayload([&details](absl::string_view type_url, const absl::Cord& payload) {
    google::protobuf::Any any;
    any.set_type_url(std::string(type_url));
    any.set_value(std::string(payload));
    if (details.ByteSizeLong() + any.ByteSizeLong() <= kMaxDetailsBytes) *details.add_details() = any;
  });
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), message, details.SerializeAsString());
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  google::rpc::Status details;
  if (details.ParseFromString(status.error_details())) {
    for (const google::protobuf::Any& any : details.details())
      result.SetPayload(any.type_url(), absl::Cord(any.value()));
  }
  return result;
}

}  // namespace ithaca

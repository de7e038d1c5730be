#include "proto/errors.h"

#include <google/protobuf/message.h>

#include <optional>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "google/rpc/error_details.pb.h"
#include "proto/shortened.h"

namespace ithaca {
namespace {

// Details travel in HTTP/2 headers, which peers limit to 8 KiB.
constexpr size_t kMaxViolationBytes = 2500;
constexpr size_t kMaxFieldBytes = 300;

template <typename Detail>
std::string TypeUrl() {
  return absl::StrCat("type.googleapis.com/", Detail::descriptor()->full_name());
}

template <typename Detail>
std::optional<Detail> DetailOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(TypeUrl<Detail>());
  Detail detail;
  if (!payload || !detail.ParseFromString(std::string(*payload))) return std::nullopt;
  return detail;
}

void SetDetail(absl::Status& status, const google::protobuf::Message& detail) {
  status.SetPayload(absl::StrCat("type.googleapis.com/", detail.GetDescriptor()->full_name()),
                    absl::Cord(detail.SerializeAsString()));
}

}  // namespace

absl::Status MakeError(absl::StatusCode code, const std::string& reason, const std::string& message,
                       const std::map<std::string, std::string>& metadata) {
  google::rpc::ErrorInfo info;
  info.set_reason(reason);
  info.set_domain(kErrorDomain);
  info.mutable_metadata()->insert(metadata.begin(), metadata.end());
  absl::Status status(code, message);
  SetDetail(status, info);
  return status;
}

absl::Status InvalidFields(const FieldMistakes& mistakes) {
  google::rpc::BadRequest details;
  for (const FieldMistake& mistake : mistakes) {
    if (details.ByteSizeLong() > kMaxViolationBytes) break;  // the message still says how many there are
    auto& violation = *details.add_field_violations();
    violation.set_field(Shortened(mistake.field, kMaxFieldBytes));
    violation.set_description(Shortened(mistake.message, kMaxFieldBytes));
  }
  const std::string list = absl::StrJoin(
      mistakes, "; ", [](std::string* out, const FieldMistake& mistake) { out->append(ToString(mistake)); });
  absl::Status status = MakeError(
      absl::StatusCode::kInvalidArgument, "INVALID_FIELDS",
      absl::StrCat(mistakes.size(), mistakes.size() == 1 ? " mistake" : " mistakes", " in the request: ", list));
  SetDetail(status, details);
  return status;
}

std::string ReasonOf(const absl::Status& status) {
  const auto info = DetailOf<google::rpc::ErrorInfo>(status);
  return info && info->domain() == kErrorDomain ? info->reason() : "";
}

FieldMistakes MistakesOf(const absl::Status& status) {
  FieldMistakes mistakes;
  if (const auto details = DetailOf<google::rpc::BadRequest>(status)) {
    for (const auto& violation : details->field_violations()) {
      mistakes.push_back({violation.field(), 0, violation.description()});
    }
  }
  return mistakes;
}

}  // namespace ithaca

#include "proto/errors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/status/statusor.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "proto/grpc_status.h"
#include "proto/status_macros.h"

namespace ithaca {
namespace {

TEST(GrpcStatus, CodeMessageReasonAndMistakesSurviveTheWay) {
  const FieldMistakes mistakes = {{"training.steps", 0, "must be given"}, {"name", 0, "must be a DNS label"}};
  const absl::Status back = FromGrpcStatus(ToGrpcStatus(InvalidFields(mistakes)));
  EXPECT_EQ(back.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(back.message(), "2 mistakes in the request: training.steps: must be given; name: must be a DNS label");
  EXPECT_EQ(ReasonOf(back), "INVALID_FIELDS");
  EXPECT_EQ(MistakesOf(back), mistakes);
}

TEST(GrpcStatus, DetailsAreWhatOtherClientsExpect) {
  const grpc::Status sent =
      ToGrpcStatus(MakeError(absl::StatusCode::kNotFound, "JOB_NOT_FOUND", "no job x", {{"job", "x"}}));
  EXPECT_EQ(sent.error_code(), grpc::StatusCode::NOT_FOUND);
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(sent.error_details()));
  ASSERT_EQ(details.details_size(), 1);
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(details.details(0).UnpackTo(&info));
  EXPECT_EQ(info.domain(), "ithaca");
  EXPECT_EQ(info.reason(), "JOB_NOT_FOUND");
  EXPECT_EQ(info.metadata().at("job"), "x");
}

TEST(GrpcStatus, ManyMistakesStayWithinWhatHeadersCarry) {
  FieldMistakes mistakes;
  for (int i = 0; i < 5000; ++i)
    mistakes.push_back({"data.train[" + std::to_string(i) + "].weight", 0, "must be greater than 0"});
  const grpc::Status sent = ToGrpcStatus(InvalidFields(mistakes));
  EXPECT_LT(sent.error_message().size() + sent.error_details().size(), 7000u);
  const absl::Status back = FromGrpcStatus(sent);
  EXPECT_THAT(std::string(back.message()), ::testing::StartsWith("5000 mistakes"));
  EXPECT_EQ(ReasonOf(back), "INVALID_FIELDS");
  EXPECT_GT(MistakesOf(back).size(), 20u);
}

TEST(GrpcStatus, StatusWithoutOrWithBrokenDetailsKeepsCodeAndMessage) {
  const absl::Status back = FromGrpcStatus(grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone", "\xff\xff not a proto"));
  EXPECT_EQ(back, absl::UnavailableError("gone"));
  EXPECT_EQ(ReasonOf(back), "");
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  EXPECT_TRUE(FromGrpcStatus(grpc::Status::OK).ok());
}

absl::StatusOr<int> Half(int number) {
  if (number % 2 != 0) return absl::InvalidArgumentError("odd");
  return number / 2;
}

absl::StatusOr<int> Quarter(int number) {
  ASSIGN_OR_RETURN(const int half, Half(number));
  RETURN_IF_ERROR(Half(half).status());
  return Half(half);
}

TEST(StatusMacros, ReturnTheFirstErrorElseTheValue) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_EQ(Quarter(7).status().message(), "odd");
  EXPECT_EQ(Quarter(6).status().message(), "odd");
}

}  // namespace
}  // namespace ithaca

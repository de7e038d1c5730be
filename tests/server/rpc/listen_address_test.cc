#include "server/rpc/listen_address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ithaca {
namespace {

using ::testing::HasSubstr;

TEST(ListenAddressTest, ReadsWhatCanBeListenedOn) {
  for (const char* text : {"127.0.0.1:7070", "0.0.0.0:0", "[::1]:65535", "[::]:80", "localhost:9090"}) {
    const absl::StatusOr<ListenAddress> address = ParseListenAddress(text);
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(address->ToString(), text);
  }
}

TEST(ListenAddressTest, RefusesEverythingElseInOneSentence) {
  for (const char* text :
       {"", "7070", ":7070", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:x", "::1:80",
        "[::1]", "[]:80", "[127.0.0.1]:80", "example.com:80", "unix:/tmp/x"}) {
    const absl::StatusOr<ListenAddress> address = ParseListenAddress(text);
    EXPECT_TRUE(absl::IsInvalidArgument(address.status())) << text;
  }
}

TEST(ListenAddressTest, KnowsWhatOnlyThisMachineCanReach) {
  EXPECT_TRUE(ParseListenAddress("127.0.0.1:1")->IsLoopback());
  EXPECT_TRUE(ParseListenAddress("127.9.8.7:1")->IsLoopback());
  EXPECT_TRUE(ParseListenAddress("[::1]:1")->IsLoopback());
  EXPECT_TRUE(ParseListenAddress("localhost:1")->IsLoopback());
  EXPECT_FALSE(ParseListenAddress("0.0.0.0:1")->IsLoopback());
  EXPECT_FALSE(ParseListenAddress("128.0.0.1:1")->IsLoopback());
  EXPECT_FALSE(ParseListenAddress("[::]:1")->IsLoopback());
}

TEST(ListenAddressTest, AnExposedAddressNeedsTlsOrAnExplicitWord) {
  const ListenAddress exposed{"0.0.0.0", 7070};
  const absl::Status status = CheckGrpcExposure(exposed, false, false);
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("--listen 0.0.0.0:7070"));
  EXPECT_TRUE(CheckGrpcExposure(exposed, true, false).ok());
  EXPECT_TRUE(CheckGrpcExposure(exposed, false, true).ok());
  EXPECT_TRUE(CheckGrpcExposure({"127.0.0.1", 7070}, false, false).ok());
}

TEST(ListenAddressTest, AnExposedStatusPageNeedsAWordOfItsOwn) {
  const absl::Status status = CheckHttpExposure({"::", 9090}, false);
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("--http [::]:9090"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("--insecure-http"));
  EXPECT_THAT(std::string(status.message()), ::testing::Not(HasSubstr("tls")));
  EXPECT_TRUE(CheckHttpExposure({"::", 9090}, true).ok());
  EXPECT_TRUE(CheckHttpExposure({"127.0.0.1", 9090}, false).ok());
}

}  // namespace
}  // namespace ithaca

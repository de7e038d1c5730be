#include "server/metrics/http_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

namespace ithaca {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Ask(const std::string& address, const std::string& request_line) {
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  where.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&where), sizeof where), 0);
  const std::string request = request_line + " HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n";
  EXPECT_EQ(::write(fd, request.data(), request.size()), static_cast<ssize_t>(request.size()));
  std::string answer;
  char bytes[4096];
  for (ssize_t n; (n = ::read(fd, bytes, sizeof bytes)) > 0;) answer.append(bytes, static_cast<size_t>(n));
  ::close(fd);
  return answer;
}

class HttpServerTest : public ::testing::Test {
 protected:
  HttpServerTest() {
    auto server = HttpServer::Start("127.0.0.1:0", {{"/page", [] {
                                                       return HttpResponse{200, "text/html", "<b>hello</b>"};
                                                     }}});
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, AnswersAPageWithItsTypeAndLength) {
  const std::string answer = Ask(server_->address(), "GET /page");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Type: text/html\r\nContent-Length: 12\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\n<b>hello</b>"));
}

TEST_F(HttpServerTest, AnswersHeadWithoutTheBody) {
  const std::string answer = Ask(server_->address(), "HEAD /page");
  EXPECT_THAT(answer, HasSubstr("Content-Length: 12\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\n"));
}

TEST_F(HttpServerTest, RefusesOtherPagesAndMethods) {
  EXPECT_THAT(Ask(server_->address(), "GET /other"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(Ask(server_->address(), "GET /page/../../etc/passwd"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(Ask(server_->address(), "POST /page"), StartsWith("HTTP/1.1 405 "));
}

TEST_F(HttpServerTest, APortInUseIsOneSentence) {
  const auto second = HttpServer::Start(server_->address(), {});
  EXPECT_TRUE(absl::IsUnavailable(second.status()));
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("the port is in use"));
}

}  // namespace
}  // namespace ithaca

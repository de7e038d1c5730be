// A coordinator with TLS: callers must show a certificate; its own workers need none, they come by the unix socket.

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "tests/cluster/mini_cluster.h"

namespace ithaca::cluster {
namespace {

std::string ReadFile(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

class TlsTest : public ::testing::Test {
 protected:
  TlsTest() {
    const std::string make = absl::StrCat(
        "cd ", keys_.path(), " && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 ",
        "-keyout key.pem -out cert.pem -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 >/dev/null 2>&1");
    EXPECT_EQ(std::system(make.c_str()), 0) << make;
  }

  MiniCluster::Options WithTls(bool show_certificate) {
    grpc::SslCredentialsOptions tls;
    tls.pem_root_certs = ReadFile(Key("cert.pem"));
    if (show_certificate) {
      tls.pem_cert_chain = tls.pem_root_certs;
      tls.pem_private_key = ReadFile(Key("key.pem"));
    }
    MiniCluster::Options options;
    options.flags = {"--tls-cert", Key("cert.pem"), "--tls-key", Key("key.pem"), "--tls-client-ca", Key("cert.pem")};
    options.credentials = grpc::SslCredentials(tls);
    return options;
  }
  std::string Key(const std::string& name) const { return keys_.path() + "/" + name; }

  fakes::TemporaryDirectory keys_;
};

TEST_F(TlsTest, AJobIsSubmittedAndTrainedWithMutualTls) {
  MiniCluster cluster(WithTls(true));
  const std::string id = cluster.Submit(cluster.FakeJob("secret", 2, 5, {}));
  EXPECT_TRUE(cluster.WaitForState(id, v1::JOB_STATE_SUCCEEDED));
}

TEST_F(TlsTest, ACallerWithoutACertificateIsRefused) {
  MiniCluster cluster(WithTls(false));
  grpc::ClientContext context;
  v1::ListJobsResponse response;
  const grpc::Status status = cluster.jobs().ListJobs(&context, v1::ListJobsRequest(), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(TlsTest, TheCommandLineTalksWithTls) {
  MiniCluster cluster(WithTls(true));
  const std::string id = cluster.Submit(cluster.FakeJob("secret", 1, 5, {}));
  const auto run = [&](const std::string& environment, const std::string& flags) {
    const std::string command = absl::StrCat(environment, " ", ITHACA_CLI, " get ", id, " --server ",
                                             cluster.grpc_address(), " ", flags, " >", Key("out"), " 2>&1");
    const int status = std::system(command.c_str());
    return WEXITSTATUS(status);
  };
  const std::string all =
      absl::StrCat("--tls-ca ", Key("cert.pem"), " --tls-cert ", Key("cert.pem"), " --tls-key ", Key("key.pem"));
  EXPECT_EQ(run("", all), 0) << ReadFile(Key("out"));
  EXPECT_NE(ReadFile(Key("out")).find(id), std::string::npos);
  const std::string environment = absl::StrCat("ITHACA_TLS_CA=", Key("cert.pem"), " ITHACA_TLS_CERT=", Key("cert.pem"),
                                               " ITHACA_TLS_KEY=", Key("key.pem"));
  EXPECT_EQ(run(environment, ""), 0) << ReadFile(Key("out"));
  EXPECT_EQ(run("", ""), 6) << "without TLS it is not heard";
  EXPECT_EQ(run("", "--tls-ca " + Key("cert.pem")), 6) << "without a certificate neither";
}

TEST_F(TlsTest, AStateDirectoryWithoutRoomForTheSocketIsOneClearSentence) {
  MiniCluster cluster;
  const std::string state = cluster.path(std::string(100, 'x'));
  const Ended ended = cluster.RunToEnd(
      {"--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--tls-cert", Key("cert.pem"), "--tls-key", Key("key.pem")},
      state);
  EXPECT_EQ(ended.exit_code, 2);
  EXPECT_EQ(ended.output,
            "ithacad: With TLS the workers of this machine need a unix socket, whose path may have 100 characters: "
            "give a --state-dir shorter than " +
                state + ".\n");
}

TEST_F(TlsTest, WrongTlsFilesAreOneClearSentence) {
  MiniCluster cluster;
  std::ofstream(Key("nonsense.pem")) << "nonsense";
  const std::vector<std::string> ports = {"--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"};
  const auto run = [&](std::vector<std::string> flags) {
    flags.insert(flags.end(), ports.begin(), ports.end());
    return cluster.RunToEnd(flags, cluster.path("other"));
  };
  Ended ended = run({"--tls-cert", Key("cert.pem")});
  EXPECT_EQ(ended.exit_code, 2);
  EXPECT_EQ(ended.output, "ithacad: --tls-cert and --tls-key belong together: give both or none.\n");
  ended = run({"--tls-cert", Key("nonsense.pem"), "--tls-key", Key("key.pem")});
  EXPECT_EQ(ended.exit_code, 2);
  EXPECT_EQ(ended.output, "ithacad: " + Key("nonsense.pem") + " cannot be read or is not a PEM file.\n");
}

}  // namespace
}  // namespace ithaca::cluster

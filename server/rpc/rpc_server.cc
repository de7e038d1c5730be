#include "server/rpc/rpc_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/security/server_credentials.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <fstream>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/message_limits.h"
#include "proto/status_macros.h"

namespace ithaca {
namespace {

absl::StatusOr<std::string> ReadPem(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  if (!file || text.str().find("-----BEGIN") == std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(path, " cannot be read or is not a PEM file."));
  }
  return text.str();
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeCredentials(const RpcServer::Options& options) {
  if (options.tls_cert_path.empty() != options.tls_key_path.empty()) {
    return absl::InvalidArgumentError("--tls-cert and --tls-key belong together: give both or none.");
  }
  if (options.tls_cert_path.empty()) {
    if (!options.tls_client_ca_path.empty()) {
      return absl::InvalidArgumentError("--tls-client-ca needs --tls-cert and --tls-key.");
    }
    return grpc::InsecureServerCredentials();
  }
  grpc::SslServerCredentialsOptions tls;
  ASSIGN_OR_RETURN(const std::string key, ReadPem(options.tls_key_path));
  ASSIGN_OR_RETURN(const std::string certificate, ReadPem(options.tls_cert_path));
  tls.pem_key_cert_pairs.push_back({key, certificate});
  if (!options.tls_client_ca_path.empty()) {
    ASSIGN_OR_RETURN(tls.pem_root_certs, ReadPem(options.tls_client_ca_path));
    tls.client_certificate_request = GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
  }
  return grpc::SslServerCredentials(tls);
}

void SetArguments(grpc::ServerBuilder* builder) {
  builder->SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder->SetMaxSendMessageSize(kMaxMessageBytes);
  // Two coordinators must not share a port, however politely.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Below the intervals of our own workers and client, else they are told off for pinging too often.
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20000);
}

}  // namespace

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(const Options& options, const Core& core,
                                                            RpcObserver observer) {
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ServerCredentials> credentials, MakeCredentials(options));
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  std::unique_ptr<RpcServer> rpc(new RpcServer(core));
  grpc::ServerBuilder builder;
  SetArguments(&builder);
  int port = 0, socket_port = 0;
  builder.AddListeningPort(options.address.ToString(), credentials, &port);
  if (!options.worker_socket.empty()) {
    builder.AddListeningPort(absl::StrCat("unix:", options.worker_socket), grpc::InsecureServerCredentials(),
                             &socket_port);
  }
  builder.RegisterService(&rpc->jobs_);
  builder.RegisterService(&rpc->workers_);
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(std::make_unique<RpcInterceptorFactory>(std::move(observer)));
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
  rpc->server_ = builder.BuildAndStart();
  if (rpc->server_ == nullptr || port == 0) {
    return absl::UnavailableError(absl::StrCat("Cannot listen for gRPC on ", options.address.ToString(),
                                               ": the port is in use or the address is not one of this machine's."));
  }
  if (!options.worker_socket.empty()) ::chmod(options.worker_socket.c_str(), 0600);
  rpc->address_ = ListenAddress{options.address.host, port}.ToString();
  return rpc;
}

RpcServer::~RpcServer() {
  if (server_ != nullptr) Drain(absl::ZeroDuration());
}

void RpcServer::Drain(absl::Duration patience) {
  if (server_ == nullptr) return;
  if (grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService()) health->SetServingStatus(false);
  jobs_.Drain();
  hub_.DetachAll();
  server_->Shutdown(absl::ToChronoTime(absl::Now() + patience));
  server_->Wait();
  server_.reset();
}

}  // namespace ithaca

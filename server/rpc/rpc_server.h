#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/core/history.h"
#include "server/core/job_table.h"
#include "server/core/registry.h"
#include "server/core/worker_hub.h"
#include "server/rpc/job_service.h"
#include "server/rpc/listen_address.h"
#include "server/rpc/rpc_interceptor.h"
#include "server/rpc/worker_service.h"

namespace ithaca {

// The coordinator's gRPC port: JobService, WorkerService, health and reflection on the TCP address, and once more on a
// unix socket for the workers of this machine, which so find a coordinator that came back on another port and need no
// TLS. Owned by main; threads are gRPC's. What is in `Core` outlives it.
class RpcServer {
 public:
  struct Options {
    ListenAddress address;
    std::string worker_socket;  // path of the unix socket; empty: none
    std::string tls_cert_path, tls_key_path;
    std::string tls_client_ca_path;  // if given, callers must show a certificate signed by it
  };
  struct Core {
    JobTable& table;
    Registry& registry;
    History& history;
    WorkerHub& hub;
  };
  // UNAVAILABLE with one sentence when the address cannot be had; INVALID_ARGUMENT when a TLS file cannot be read.
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(const Options& options, const Core& core,
                                                          RpcObserver observer);
  ~RpcServer();

  // "host:port" with the port that was taken.
  const std::string& address() const { return address_; }

  // Stops accepting, tells workers to come back later, ends streams with UNAVAILABLE, and what still runs after
  // `patience` by force. Not to be called from an RPC.
  void Drain(absl::Duration patience);

 private:
  explicit RpcServer(const Core& core)
      : hub_(core.hub), jobs_(core.registry, core.history, core.table), workers_(core.hub) {}

  WorkerHub& hub_;
  JobServiceImpl jobs_;
  WorkerServiceImpl workers_;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace ithaca

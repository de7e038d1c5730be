#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/rpc/listen_address.h"

namespace ithaca {

// What the command line of ithacad says.
struct CoordinatorOptions {
  std::filesystem::path state_directory;
  ListenAddress listen{"127.0.0.1", 7070};
  ListenAddress http{"127.0.0.1", 9090};
  bool insecure_listen = false, insecure_http = false;
  std::string tls_cert_path, tls_key_path, tls_client_ca_path;
  int cpu_slots = -1;  // -1: one if there is no GPU, else none
  std::filesystem::path worker_path, engine_path;
  std::string host;  // name of this machine
};

// The whole service in one process: the store, the job table with what works on it, the reconciler's thread, the gRPC
// and HTTP ports. Owned by main. One per state directory, which a lock on it makes sure of. The order of its parts is
// the order of their lifetimes: what is named first is built first and ends last.
class Coordinator {
 public:
  // Opens the state, takes up what an earlier coordinator left, and serves. Every error is one sentence for people:
  // FAILED_PRECONDITION where the options are refused or the state is another's, UNAVAILABLE where a port or file is.
  static absl::StatusOr<std::unique_ptr<Coordinator>> Start(const CoordinatorOptions& options);

  // Drains: stops accepting, ends streams with UNAVAILABLE, tells workers to come back. Training goes on.
  ~Coordinator();

  std::string grpc_address() const;
  std::string http_address() const;

 private:
  struct Parts;
  explicit Coordinator(std::unique_ptr<Parts> parts);

  std::unique_ptr<Parts> parts_;
};

}  // namespace ithaca

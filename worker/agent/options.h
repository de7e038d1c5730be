#pragma once

#include <string>

#include "absl/time/time.h"

namespace ithaca {

// What a worker is told on its command line.
struct AgentOptions {
  std::string coordinator;  // a gRPC target: host:port, or unix:/path
  std::string job_id;
  int attempt = 0;
  std::string token;           // content of the token file
  std::string engine;          // path of ithaca-engine
  std::string work_directory;  // must exist; run.json, spool, logs and result.json go there
  std::string host;            // the name reported, and where rank 0 can be reached
  std::string tls_ca_path;     // certificates to trust; empty: no TLS

  // How long the other ranks may take to end by themselves after one has failed.
  absl::Duration peer_grace = absl::Seconds(10);
  // How long engines may take to save and end when the worker itself is told to end.
  absl::Duration stop_grace = absl::Seconds(30);
  // How long a worker whose engines have ended waits for a coordinator before it leaves its result in its directory.
  absl::Duration linger = absl::Hours(24);
};

}  // namespace ithaca

#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ithaca {

// "host:port" of a command line: an IPv4 address, an IPv6 address in brackets, or "localhost".
struct ListenAddress {
  std::string host;
  int port = 0;  // 0: any free one

  std::string ToString() const;
  // Whether only processes of this machine can reach it.
  bool IsLoopback() const;
};

// INVALID_ARGUMENT with one sentence for anything else.
absl::StatusOr<ListenAddress> ParseListenAddress(const std::string& text);

// OK for a loopback address, with TLS, or where the operator has said --insecure-listen; else FAILED_PRECONDITION with
// one sentence that says what to do.
absl::Status CheckGrpcExposure(const ListenAddress& address, bool has_tls, bool allowed);

// The same for the HTTP port, which never has TLS and only shows: --insecure-http allows it.
absl::Status CheckHttpExposure(const ListenAddress& address, bool allowed);

}  // namespace ithaca

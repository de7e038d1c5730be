#include "server/rpc/listen_address.h"

#include <arpa/inet.h>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace ithaca {

std::string ListenAddress::ToString() const {
  return absl::StrCat(absl::StrContains(host, ':') ? absl::StrCat("[", host, "]") : host, ":", port);
}

bool ListenAddress::IsLoopback() const {
  in_addr v4;
  if (::inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  return host == "localhost" || host == "::1";
}

absl::StatusOr<ListenAddress> ParseListenAddress(const std::string& text) {
  const absl::Status wrong = absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is no address to listen on: write 127.0.0.1:7070, [::1]:7070 or 0.0.0.0:7070."));
  const size_t colon = text.rfind(':');
  ListenAddress address;
  if (colon == std::string::npos || !absl::SimpleAtoi(text.substr(colon + 1), &address.port)) return wrong;
  if (address.port < 0 || address.port > 65535) return wrong;
  address.host = text.substr(0, colon);
  in_addr v4;
  in6_addr v6;
  if (address.host.size() > 2 && address.host.front() == '[' && address.host.back() == ']') {
    address.host = address.host.substr(1, address.host.size() - 2);
    if (::inet_pton(AF_INET6, address.host.c_str(), &v6) != 1) return wrong;
  } else if (address.host != "localhost" && ::inet_pton(AF_INET, address.host.c_str(), &v4) != 1) {
    return wrong;
  }
  return address;
}

absl::Status CheckGrpcExposure(const ListenAddress& address, bool has_tls, bool allowed) {
  if (address.IsLoopback() || has_tls || allowed) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("--listen ", address.ToString(),
                   " can be reached from other machines, and anyone there could run jobs: give "
                   "--tls-cert and --tls-key, or --insecure-listen if the network itself is guarded."));
}

absl::Status CheckHttpExposure(const ListenAddress& address, bool allowed) {
  if (address.IsLoopback() || allowed) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("--http ", address.ToString(),
                   " can be reached from other machines, and anyone there could read names, states and metrics of all "
                   "jobs: give --insecure-http if they may."));
}

}  // namespace ithaca

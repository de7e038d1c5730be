#include "worker/engine/comm/rendezvous.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

using plan::ExitCode;

int EnvironmentInteger(const char* name, int low, int high, std::optional<int> fallback) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') {
    if (fallback.has_value()) return *fallback;
    throw EngineError(ExitCode::kInvalidConfig, std::string(name) + " is not set, but WORLD_SIZE is");
  }
  int value = 0;
  const char* end = text + std::strlen(text);
  const auto [rest, error] = std::from_chars(text, end, value);
  if (error != std::errc() || rest != end || value < low || value > high) {
    throw EngineError(ExitCode::kInvalidConfig, std::string(name) + "=" + text + " is not an integer from " +
                                                    std::to_string(low) + " to " + std::to_string(high));
  }
  return value;
}

using AddressList = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

AddressList Resolve(const std::string& host, int port, int socket_type) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = socket_type;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (error != 0) {
    throw EngineError(ExitCode::kInvalidConfig,
                      "MASTER_ADDR '" + host + "' cannot be resolved: " + gai_strerror(error));
  }
  return AddressList(found, &freeaddrinfo);
}

// A listening socket, or -1 with errno.
int Listen(const addrinfo& address) {
  const int fd = socket(address.ai_family, address.ai_socktype | SOCK_CLOEXEC, address.ai_protocol);
  if (fd < 0) return -1;
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (bind(fd, address.ai_addr, address.ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

int ListenOn(const std::string& host, int port) {
  const AddressList addresses = Resolve(host, port, SOCK_STREAM);
  int fd = -1;
  for (const addrinfo* it = addresses.get(); it != nullptr && fd < 0; it = it->ai_next) fd = Listen(*it);
  if (fd < 0 && errno == EADDRNOTAVAIL) {
    // The name stands for this machine without being one of its addresses (a Kubernetes service, NAT).
    const AddressList any = Resolve("0.0.0.0", port, SOCK_STREAM);
    fd = Listen(*any);
  }
  if (fd < 0) {
    throw EngineError(ExitCode::kInvalidConfig, "the rendezvous cannot listen on " + host + ":" + std::to_string(port) +
                                                    ": " + std::strerror(errno));
  }
  return fd;
}

int PortOf(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<sockaddr_in&>(address).sin_port);
}

}  // namespace

RendezvousOptions RendezvousOptions::FromEnvironment() {
  RendezvousOptions options;
  const int most = std::numeric_limits<int>::max();
  options.world_size = EnvironmentInteger("WORLD_SIZE", 1, most, 1);
  const bool alone = options.world_size == 1;
  options.rank = EnvironmentInteger("RANK", 0, options.world_size - 1, alone ? std::optional<int>(0) : std::nullopt);
  options.local_rank = EnvironmentInteger("LOCAL_RANK", 0, most, options.rank);
  options.master_port = EnvironmentInteger("MASTER_PORT", 0, 65535, alone ? std::optional<int>(0) : std::nullopt);
  if (const char* host = std::getenv("MASTER_ADDR"); host != nullptr && *host != '\0') options.master_host = host;
  if (options.master_port == 0 && options.rank != 0) {
    throw EngineError(ExitCode::kInvalidConfig, "MASTER_PORT=0 (any free port) is for rank 0 alone; rank " +
                                                    std::to_string(options.rank) + " must be given the port");
  }
  return options;
}

c10::intrusive_ptr<c10d::Store> OpenRendezvousStore(const RendezvousOptions& options) {
  c10d::TCPStoreOptions store;
  store.waitWorkers = false;
  store.timeout = std::chrono::seconds(options.timeout_seconds);
  store.isServer = options.rank == 0;
  int port = options.master_port;
  if (store.isServer) {
    store.masterListenFd = ListenOn(options.master_host, port);
    port = PortOf(*store.masterListenFd);
  }
  store.port = static_cast<std::uint16_t>(port);
  const std::string place = options.master_host + ":" + std::to_string(port);
  c10::intrusive_ptr<c10d::Store> opened;
  try {
    opened = c10::make_intrusive<c10d::TCPStore>(options.master_host, store);
  } catch (const std::exception& error) {
    throw EngineError(ExitCode::kPeerLost, "rank " + std::to_string(options.rank) + " found no rendezvous at " + place +
                                               " within " + std::to_string(options.timeout_seconds) + " s");
  }
  if (store.isServer && options.on_listening) options.on_listening(options.master_host, port);
  return opened;
}

std::string LocalAddressTowards(const std::string& host) {
  const AddressList addresses = Resolve(host, 9, SOCK_DGRAM);
  for (const addrinfo* it = addresses.get(); it != nullptr; it = it->ai_next) {
    const int fd = socket(it->ai_family, it->ai_socktype | SOCK_CLOEXEC, it->ai_protocol);
    if (fd < 0) continue;
    sockaddr_storage local{};
    socklen_t length = sizeof(local);
    char digits[NI_MAXHOST] = "";
    const bool known =
        connect(fd, it->ai_addr, it->ai_addrlen) == 0 &&  // a datagram socket: picks the route, sends nothing
        getsockname(fd, reinterpret_cast<sockaddr*>(&local), &length) == 0 &&
        getnameinfo(reinterpret_cast<sockaddr*>(&local), length, digits, sizeof(digits), nullptr, 0, NI_NUMERICHOST) ==
            0;
    close(fd);
    if (known) return digits;
  }
  throw EngineError(ExitCode::kInvalidConfig,
                    "no network interface of this machine reaches MASTER_ADDR '" + host + "'");
}

}  // namespace ithaca::engine

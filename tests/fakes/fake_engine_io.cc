#include "tests/fakes/fake_engine_io.h"

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <utility>

#include "worker/plan/exit_code.h"

namespace ithaca::fakes {
namespace {

using Clock = std::chrono::steady_clock;

int MasterPort() {
  const char* port = std::getenv("MASTER_PORT");
  return port == nullptr ? 0 : std::atoi(port);
}

sockaddr_in MasterAddress() {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(MasterPort()));
  const char* host = std::getenv("MASTER_ADDR");
  if (host == nullptr || inet_pton(AF_INET, host, &address.sin_addr) != 1) {
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  }
  return address;
}

}  // namespace

EngineIo::EngineIo(int events_fd, int commands_fd, int rank, int world_size)
    : events_fd_(events_fd),
      commands_fd_(commands_fd),
      rank_(rank),
      world_size_(world_size),
      commands_open_(commands_fd >= 0) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signal_fd_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  ::signal(SIGPIPE, SIG_IGN);
}

bool EngineIo::checkpoint_requested() { return std::exchange(checkpoint_requested_, false); }

void EngineIo::Emit(const std::string& event, nlohmann::json fields) {
  fields["event"] = event;
  fields["rank"] = rank_;
  fields["time"] = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  Write(fields.dump() + "\n");
}

void EngineIo::Write(const std::string& bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::write(events_fd_, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) _exit(static_cast<int>(plan::ExitCode::kInternal));
    done += static_cast<size_t>(n);
  }
}

void EngineIo::JoinPeers() {
  if (rank_ == 0) {
    Accept();
  } else {
    Connect();
  }
}

void EngineIo::Accept() {
  if (std::getenv("MASTER_PORT") == nullptr) return;
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = MasterAddress();
  if (::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || ::listen(listener, 64) != 0) {
    throw std::runtime_error("cannot listen for the other ranks");
  }
  socklen_t length = sizeof address;
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
  if (MasterPort() == 0) Emit("listening", {{"host", "127.0.0.1"}, {"port", ntohs(address.sin_port)}});
  while (static_cast<int>(peers_.size()) < world_size_ - 1) {
    pollfd waiting{listener, POLLIN, 0};
    if (::poll(&waiting, 1, 20) == 1) peers_.push_back(::accept(listener, nullptr, nullptr));
    Wait(0);
    if (stop_requested_) _exit(static_cast<int>(plan::ExitCode::kStopped));
  }
  ::close(listener);
}

void EngineIo::Connect() {
  const sockaddr_in address = MasterAddress();
  const int peer = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::connect(peer, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    _exit(static_cast<int>(plan::ExitCode::kPeerLost));
  }
  peers_.push_back(peer);
}

void EngineIo::LeavePeers() {
  for (const int peer : peers_) {
    if (peer >= 0) (void)!::write(peer, "f", 1);
  }
}

void EngineIo::ReadCommands() {
  char bytes[4096];
  const ssize_t n = ::read(commands_fd_, bytes, sizeof bytes);
  if (n <= 0) {
    commands_open_ = false;
    return;
  }
  commands_.append(bytes, static_cast<size_t>(n));
  for (size_t end; (end = commands_.find('\n')) != std::string::npos; commands_.erase(0, end + 1)) {
    const auto command = nlohmann::json::parse(commands_.substr(0, end), nullptr, false);
    const std::string verb = command.is_object() ? command.value("command", "") : "";
    if (verb == "stop" && !ignore_stop_) stop_requested_ = true;
    if (verb == "checkpoint") checkpoint_requested_ = true;
  }
}

void EngineIo::Wait(double seconds) {
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  do {
    std::vector<pollfd> fds = {{signal_fd_, POLLIN, 0}, {commands_open_ ? commands_fd_ : -1, POLLIN, 0}};
    for (const int peer : peers_) fds.push_back({peer, POLLIN | POLLRDHUP, 0});
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
    if (::poll(fds.data(), fds.size(), static_cast<int>(std::max<long long>(left, 0))) <= 0) continue;
    if (fds[0].revents != 0) {
      signalfd_siginfo info;
      if (::read(signal_fd_, &info, sizeof info) == sizeof info && !ignore_stop_) stop_requested_ = true;
    }
    if (fds[1].revents != 0) ReadCommands();
    for (size_t i = 2; i < fds.size(); ++i) {
      char byte;
      if (fds[i].revents == 0) continue;
      if (::read(fds[i].fd, &byte, 1) == 1 && byte == 'f') {
        peers_[i - 2] = -1;
        continue;
      }
      Emit("failed", {{"code", 31}, {"reason", "peer_lost"}, {"message", "a rank of the group closed its connection"}});
      _exit(static_cast<int>(plan::ExitCode::kPeerLost));
    }
    if (stop_requested_) return;
  } while (Clock::now() < end);
}

}  // namespace ithaca::fakes

#include "worker/engine/commands.h"

#include <poll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

namespace ithaca::engine {
namespace {

Requests* signal_requests = nullptr;

void OnTerminate(int) { signal_requests->stop = true; }

}  // namespace

CommandReader::CommandReader(int fd, Requests& requests) : fd_(fd), requests_(requests), thread_([this] { Loop(); }) {}

CommandReader::~CommandReader() {
  closing_ = true;
  thread_.join();
}

void CommandReader::Loop() {
  std::string pending;
  while (!closing_) {
    pollfd poll_fd = {.fd = fd_, .events = POLLIN, .revents = 0};
    if (poll(&poll_fd, 1, 100) <= 0) continue;
    char buffer[512];
    const ssize_t count = read(fd_, buffer, sizeof(buffer));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    pending.append(buffer, static_cast<size_t>(count));
    for (size_t end; (end = pending.find('\n')) != std::string::npos; pending.erase(0, end + 1)) {
      Execute(pending.substr(0, end));
    }
  }
}

void CommandReader::Execute(const std::string& line) {
  const nlohmann::json object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  const std::string command =
      object.is_object() && object.contains("command") && object["command"].is_string() ? object["command"] : "";
  if (command == "stop") {
    requests_.stop = true;
  } else if (command == "checkpoint") {
    requests_.checkpoint = true;
  } else {
    std::cerr << "ignored a line that is no command: " << line << std::endl;
  }
}

void InstallSignalHandlers(Requests& requests) {
  signal_requests = &requests;
  struct sigaction action = {};
  action.sa_handler = OnTerminate;
  action.sa_flags = SA_RESTART;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

void DieWithParent(int parent_pid) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (parent_pid > 0 && getppid() != parent_pid) _exit(137);
}

}  // namespace ithaca::engine

// ithaca-engine: one rank of a training job. See EngineOptions for its command line and docs/architecture.md for its
// part in a job.

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "worker/engine/commands.h"
#include "worker/engine/events.h"
#include "worker/engine/failure.h"
#include "worker/engine/memory/memory_usage.h"
#include "worker/engine/run.h"

namespace {

using ithaca::engine::Catch;
using ithaca::plan::ExitCode;

int EnvironmentInt(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? 0 : std::atoi(value);
}

// How the rank ended, told as its last event.
ExitCode RunAndReport(const ithaca::engine::EngineOptions& options) {
  static ithaca::engine::Requests requests;
  ithaca::engine::InstallSignalHandlers(requests);
  ithaca::engine::EventSink events(options.events_fd, EnvironmentInt("RANK"));
  ExitCode code = ExitCode::kInternal;
  int64_t steps = 0;
  const auto failure = Catch([&] {
    ithaca::engine::Heartbeat heartbeat(events);
    std::optional<ithaca::engine::CommandReader> commands;
    if (options.commands_fd >= 0) commands.emplace(options.commands_fd, requests);
    code = Run(options, events, heartbeat, requests);
    steps = heartbeat.step();
  });
  if (failure) {
    ithaca::engine::ReportFailure(*failure, events);
    return failure->code;
  }
  if (code != ExitCode::kDone && code != ExitCode::kStopped) return code;  // Run has told why
  events.Emit(
      "finished",
      {{"step", steps}, {"reason", code == ExitCode::kStopped ? "stopped" : "done"}, {"dropped", events.dropped()}});
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  ithaca::engine::ConfigureHostAllocator();
  ithaca::engine::EngineOptions options;
  const auto mistake = Catch([&] { options = ithaca::engine::ParseCommandLine(argc, argv); });
  if (mistake) {
    std::cerr << "ithaca-engine: " << mistake->message << std::endl;
    return static_cast<int>(mistake->code);
  }
  const bool has_worker = options.events_fd != 1 || std::getenv("ITHACA_PARENT_PID") != nullptr;
  if (has_worker) ithaca::engine::DieWithParent(EnvironmentInt("ITHACA_PARENT_PID"));
  // No destructors of libraries after this: threads of LibTorch and the communicators may still run.
  std::_Exit(static_cast<int>(RunAndReport(options)));
}

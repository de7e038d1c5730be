#pragma once

#include <functional>
#include <optional>
#include <string>

#include "worker/engine/events.h"
#include "worker/plan/exit_code.h"

namespace ithaca::engine {

// How a rank failed: the exit code and one sentence.
struct Failure {
  plan::ExitCode code;
  std::string message;
};

// Runs `body` and says how it failed, if it did. The one place where exceptions of the engine are caught.
std::optional<Failure> Catch(const std::function<void()>& body);

// Tells it on stderr and as the rank's `failed` event.
void ReportFailure(const Failure& failure, EventSink& events);

}  // namespace ithaca::engine

#pragma once

#include <stdexcept>
#include <string>

#include "worker/plan/exit_code.h"

namespace ithaca::engine {

// The one exception of the engine: an end that has a documented exit code and one clear sentence. Caught once, in main.
class EngineError : public std::runtime_error {
 public:
  EngineError(plan::ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  plan::ExitCode code() const { return code_; }

 private:
  plan::ExitCode code_;
};

}  // namespace ithaca::engine

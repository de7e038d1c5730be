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

// The `reason` of a failed event: "invalid_config", "peer_lost", ...
inline const char* ReasonName(plan::ExitCode code) {
  switch (code) {
    case plan::ExitCode::kDone:
      return "done";
    case plan::ExitCode::kInvalidConfig:
      return "invalid_config";
    case plan::ExitCode::kInvalidData:
      return "invalid_data";
    case plan::ExitCode::kInvalidModel:
      return "invalid_model";
    case plan::ExitCode::kGpuOutOfMemory:
      return "gpu_out_of_memory";
    case plan::ExitCode::kHostOutOfMemory:
      return "host_out_of_memory";
    case plan::ExitCode::kCollectiveFailed:
      return "collective_failed";
    case plan::ExitCode::kPeerLost:
      return "peer_lost";
    case plan::ExitCode::kCheckpointIo:
      return "checkpoint_io";
    case plan::ExitCode::kLossNotFinite:
      return "loss_not_finite";
    case plan::ExitCode::kInternal:
      return "internal";
    case plan::ExitCode::kStopped:
      return "stopped";
  }
  return "internal";
}

}  // namespace ithaca::engine

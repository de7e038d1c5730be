#include "worker/engine/comm/nccl.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {

std::unique_ptr<Communicator> MakeNcclCommunicator(const GroupOptions&) {
  throw EngineError(plan::ExitCode::kInvalidConfig, "this engine was built without CUDA and has no NCCL");
}

}  // namespace ithaca::engine

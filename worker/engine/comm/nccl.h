#pragma once

#include <memory>

#include "worker/engine/comm/c10d_communicator.h"

namespace ithaca::engine {

// NCCL on CUDA device `local_rank` (modulo the devices there are). Collective over the group. Throws EngineError;
// in an engine built without CUDA, always.
std::unique_ptr<Communicator> MakeNcclCommunicator(const GroupOptions& options);

}  // namespace ithaca::engine

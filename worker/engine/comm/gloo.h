#pragma once

#include <memory>

#include "worker/engine/comm/c10d_communicator.h"

namespace ithaca::engine {

// Gloo over TCP; CUDA tensors are staged through the host by c10d. All-reduce is Gloo's ring: each element is added
// around the ring from a fixed rank, so equal inputs give equal bits, on every rank and in every run. Collective over
// the group. Throws EngineError.
std::unique_ptr<Communicator> MakeGlooCommunicator(const GroupOptions& options);

}  // namespace ithaca::engine

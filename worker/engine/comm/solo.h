#pragma once

#include <memory>

#include "worker/engine/comm/communicator.h"

namespace ithaca::engine {

// A group of one: every collective is a copy or nothing.
std::unique_ptr<Communicator> MakeSoloCommunicator();

}  // namespace ithaca::engine

#pragma once

#include <string>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "worker/engine/comm/mesh.h"

namespace ithaca::engine {

// Opens the key-value store through which the ranks find each other. Rank 0 listens on master_host:master_port (on that
// address alone if it is one of this machine's, else on all) and calls on_listening; the others try to connect until
// the timeout. Throws EngineError: invalid config (port in use, unknown host), peer lost (nobody answers).
c10::intrusive_ptr<c10d::Store> OpenRendezvousStore(const RendezvousOptions& options);

// The address by which this machine reaches `host`, in digits: what a group should bind to. Throws EngineError.
std::string LocalAddressTowards(const std::string& host);

}  // namespace ithaca::engine

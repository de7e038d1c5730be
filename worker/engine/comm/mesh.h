#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "worker/engine/comm/communicator.h"
#include "worker/plan/run_config.h"

namespace ithaca::engine {

// How to find the other ranks: from RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT.
struct RendezvousOptions {
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  std::string master_host = "127.0.0.1";
  int master_port = 0;  // 0 on rank 0: any free port, told through on_listening
  int64_t timeout_seconds = 600;
  std::string
      agreement;  // what else all ranks must have been told alike, in words; a rank that differs from rank 0 ends
  // Called on rank 0 once the rendezvous store accepts connections; not at all for a world of one with a given port.
  std::function<void(const std::string& host, int port)> on_listening;

  // Throws EngineError (invalid config) on a value that makes no sense. No variable set: a world of one.
  static RendezvousOptions FromEnvironment();
};

// All ranks of a run as a grid of replicas x sequence: rank = replica * sequence_ranks + sequence_rank. Owns the
// communicators; used by one thread. On CUDA the groups are NCCL's, unless ITHACA_COLLECTIVES=gloo in the environment.
// Groups of the same ranks are one communicator. Throws EngineError.
class Mesh {
 public:
  // Joins the rendezvous and builds the groups. Collective over all ranks.
  static std::unique_ptr<Mesh> Create(const RendezvousOptions& options, int sequence_ranks, plan::DeviceKind device);

  virtual ~Mesh() = default;
  virtual Communicator& world() = 0;     // all ranks; gradients are summed here
  virtual Communicator& sequence() = 0;  // the ranks that share a sequence
  virtual Communicator& replicas() = 0;  // the ranks with the same shard of different sequences

  // Rank 0 does `work`, which may take longer than a collective may, while the others wait for it through the
  // rendezvous. Collective over all ranks. Rank 0 throws what `work` throws; the others then, and when rank 0 is gone,
  // throw EngineError (peer lost).
  virtual void OnRankZero(const std::function<void()>& work) = 0;

  // After a failure: makes pending and later collectives fail, here with `reason`, on the other ranks as a lost peer.
  virtual void Abort(const std::string& reason) = 0;
};

}  // namespace ithaca::engine

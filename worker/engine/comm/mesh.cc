#include "worker/engine/comm/mesh.h"

#include <chrono>
#include <cstdlib>
#include <vector>

#include "worker/engine/comm/gloo.h"
#include "worker/engine/comm/nccl.h"
#include "worker/engine/comm/rendezvous.h"
#include "worker/engine/comm/solo.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

using plan::ExitCode;

class GridMesh : public Mesh {
 public:
  Communicator& world() override { return *world_; }
  Communicator& sequence() override { return *sequence_; }
  Communicator& replicas() override { return *replicas_; }

 private:
  friend class ithaca::engine::Mesh;
  c10::intrusive_ptr<c10d::Store> store_;  // outlives the groups
  std::vector<std::unique_ptr<Communicator>> owned_;
  Communicator* world_ = nullptr;
  Communicator* sequence_ = nullptr;
  Communicator* replicas_ = nullptr;
};

// Ranks that were told different things would wait for each other for ever.
void CheckSameGrid(c10d::Store& store, const RendezvousOptions& options, int sequence_ranks, plan::DeviceKind device) {
  const std::string mine = "WORLD_SIZE " + std::to_string(options.world_size) + ", " + std::to_string(sequence_ranks) +
                           " ranks a sequence, " + (device == plan::DeviceKind::kCuda ? "cuda" : "cpu");
  if (options.rank == 0) {
    store.set("grid", std::vector<uint8_t>(mine.begin(), mine.end()));
    return;
  }
  std::vector<uint8_t> bytes;
  try {
    bytes = store.get("grid");
  } catch (const std::exception&) {
    throw EngineError(ExitCode::kPeerLost, "rank 0 left the rendezvous");
  }
  const std::string first(bytes.begin(), bytes.end());
  if (first != mine) {
    throw EngineError(ExitCode::kInvalidConfig,
                      "rank " + std::to_string(options.rank) + " was told '" + mine + "', rank 0 '" + first + "'");
  }
}

bool UseNccl(plan::DeviceKind device) {
  const char* wanted = std::getenv("ITHACA_COLLECTIVES");
  return device == plan::DeviceKind::kCuda && (wanted == nullptr || std::string(wanted) != "gloo");
}

}  // namespace

std::unique_ptr<Mesh> Mesh::Create(const RendezvousOptions& options, int sequence_ranks, plan::DeviceKind device) {
  if (sequence_ranks < 1 || options.world_size % sequence_ranks != 0) {
    throw EngineError(ExitCode::kInvalidConfig, "WORLD_SIZE " + std::to_string(options.world_size) +
                                                    " is not a multiple of the " + std::to_string(sequence_ranks) +
                                                    " ranks that share a sequence");
  }
  auto mesh = std::make_unique<GridMesh>();
  const auto own = [&](std::unique_ptr<Communicator> group) {
    return mesh->owned_.emplace_back(std::move(group)).get();
  };
  Communicator* const solo = own(MakeSoloCommunicator());
  mesh->world_ = mesh->sequence_ = mesh->replicas_ = solo;
  const bool told_to_listen = options.rank == 0 && options.master_port == 0 && options.on_listening;
  if (options.world_size > 1 || told_to_listen) mesh->store_ = OpenRendezvousStore(options);
  if (options.world_size == 1) return mesh;

  CheckSameGrid(*mesh->store_, options, sequence_ranks, device);
  GroupOptions group{.store = mesh->store_,
                     .local_address = LocalAddressTowards(options.master_host),
                     .local_rank = options.local_rank,
                     .timeout = std::chrono::seconds(options.timeout_seconds)};
  const auto make = [&](const std::string& name, int rank, int size) -> Communicator* {
    if (size == 1) return solo;
    if (size == options.world_size && mesh->world_ != solo) return mesh->world_;
    group.name = name;
    group.rank = rank;
    group.size = size;
    return own(UseNccl(device) ? MakeNcclCommunicator(group) : MakeGlooCommunicator(group));
  };
  const int replica = options.rank / sequence_ranks;
  const int sequence_rank = options.rank % sequence_ranks;
  mesh->world_ = make("world", options.rank, options.world_size);
  mesh->sequence_ = make("sequence-" + std::to_string(replica), sequence_rank, sequence_ranks);
  mesh->replicas_ = make("replicas-" + std::to_string(sequence_rank), replica, options.world_size / sequence_ranks);
  return mesh;
}

}  // namespace ithaca::engine

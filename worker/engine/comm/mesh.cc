#include "worker/engine/comm/mesh.h"

#include <c10/util/Exception.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <string>
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

  void OnRankZero(const std::function<void()>& work) override {
    if (world_->size() == 1) return work();
    const std::string key = "on-rank-zero/" + std::to_string(works_++);
    if (world_->rank() == 0) {
      DoAndTell(key, work);
    } else {
      AwaitKey(key);
    }
    world_->Barrier();  // nobody has left before all have seen the end
  }

  void Abort(const std::string& reason) override {
    if (!failed_key_.empty()) {
      try {
        Tell(failed_key_, "failed");
      } catch (const EngineError&) {
        // Then they learn it from the end of this process.
      }
    }
    for (const auto& group : owned_) group->Abort(reason);
  }

 private:
  friend class ithaca::engine::Mesh;

  void DoAndTell(const std::string& key, const std::function<void()>& work) {
    failed_key_ = key;
    work();
    failed_key_.clear();
    Tell(key, "done");
  }

  void Tell(const std::string& key, const std::string& result) {
    try {
      store_->set(key, std::vector<uint8_t>(result.begin(), result.end()));
      store_->check({key});  // an answer: the server has passed the result on
    } catch (const std::exception& error) {
      throw EngineError(ExitCode::kCollectiveFailed, std::string("the rendezvous store failed: ") + error.what());
    }
  }

  // A short wait again and again: the store's connection is shared with the groups, and a long wait holds it.
  void AwaitKey(const std::string& key) {
    const auto deadline = std::chrono::steady_clock::now() + kLongestWork;
    while (std::chrono::steady_clock::now() < deadline) {
      try {
        store_->wait({key}, kStoreWait);
        const std::vector<uint8_t> result = store_->get(key);
        if (std::string(result.begin(), result.end()) == "done") return;
        throw EngineError(ExitCode::kPeerLost, "rank 0 failed while the other ranks waited for it");
      } catch (const c10::DistStoreError&) {
        continue;  // not yet
      } catch (const c10::DistError&) {
        throw EngineError(ExitCode::kPeerLost, "rank 0 is gone: its rendezvous store closed the connection");
      }
    }
    throw EngineError(ExitCode::kCollectiveFailed, "rank 0 took longer than a day over what the other ranks wait for");
  }

  static constexpr std::chrono::hours kLongestWork{24};
  static constexpr std::chrono::milliseconds kStoreWait{1000};

  c10::intrusive_ptr<c10d::Store> store_;  // outlives the groups
  std::vector<std::unique_ptr<Communicator>> owned_;
  Communicator* world_ = nullptr;
  Communicator* sequence_ = nullptr;
  Communicator* replicas_ = nullptr;
  int64_t works_ = 0;       // done by rank 0 so far
  std::string failed_key_;  // of the work of rank 0 that threw: the others hear of it once this rank has said why
};

// Ranks that were told different things would wait for each other for ever.
void CheckSameGrid(c10d::Store& store, const RendezvousOptions& options, int sequence_ranks, plan::DeviceKind device) {
  const std::string mine = "WORLD_SIZE " + std::to_string(options.world_size) + ", " + std::to_string(sequence_ranks) +
                           " ranks a sequence, " + (device == plan::DeviceKind::kCuda ? "cuda" : "cpu") +
                           (options.agreement.empty() ? "" : ", " + options.agreement);
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

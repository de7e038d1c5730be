#include "worker/engine/comm/gloo.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

// Gives access to the connections, which c10d closes only with the whole group.
class ClosableGloo : public c10d::ProcessGroupGloo {
 public:
  using c10d::ProcessGroupGloo::ProcessGroupGloo;
  void CloseConnections() {
    for (const auto& context : contexts_) context->closeConnections();
  }
};

class GlooCommunicator : public C10dCommunicator {
 public:
  GlooCommunicator(const GroupOptions& options, c10::intrusive_ptr<ClosableGloo> gloo)
      : C10dCommunicator(options, gloo), gloo_(gloo.get()) {}
  ~GlooCommunicator() override {
    if (aborted()) ReleaseBackend();
  }

  // A piece at a time: Gloo's own buffers are as large as what it is given.
  void AllReduceSum(at::Tensor& tensor) override {
    const at::Tensor flat = tensor.view(-1);
    for (int64_t begin = 0; begin < flat.numel(); begin += kPieceElements) {
      at::Tensor piece = flat.narrow(0, begin, std::min(kPieceElements, flat.numel() - begin));
      C10dCommunicator::AllReduceSum(piece);
    }
  }
  // c10d's own forms of these two work on copies of everything.
  void ReduceScatterSum(at::Tensor& parts) override { AllReduceSum(parts); }
  void AllGather(at::Tensor& parts) override {
    TORCH_CHECK(parts.numel() % size() == 0, "not of equal parts");
    const int64_t count = parts.numel() / size();
    for (int root = 0; root < size(); ++root) {
      at::Tensor part = parts.narrow(0, root * count, count);
      Broadcast(part, root);
    }
  }

 private:
  static constexpr int64_t kPieceElements = 1 << 25;  // 128 MiB of fp32

  // The state outlives the communicator: the callback of an abandoned collective may come late.
  struct Signal {
    std::mutex mutex;
    std::condition_variable changed;
    bool done = false;
    bool closed = false;
  };

  void Wait(c10d::Work& work) override {
    {
      const std::lock_guard<std::mutex> lock(signal_->mutex);
      signal_->done = false;
    }
    work.getFuture()->addCallback([signal = signal_](c10::ivalue::Future&) {
      const std::lock_guard<std::mutex> lock(signal->mutex);
      signal->done = true;
      signal->changed.notify_all();
    });
    {
      std::unique_lock<std::mutex> lock(signal_->mutex);
      signal_->changed.wait(lock, [&] { return signal_->done || signal_->closed; });
      if (!signal_->done) return;
    }
    work.wait();
  }

  void Close() override {
    {
      const std::lock_guard<std::mutex> lock(signal_->mutex);
      signal_->closed = true;
      signal_->changed.notify_all();
    }
    gloo_->CloseConnections();
  }

  ClosableGloo* gloo_;  // owned by the base
  std::shared_ptr<Signal> signal_ = std::make_shared<Signal>();
};

}  // namespace

std::unique_ptr<Communicator> MakeGlooCommunicator(const GroupOptions& options) {
  const auto gloo = c10d::ProcessGroupGloo::Options::create(options.timeout);
  const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
  try {
    gloo->devices.push_back(interface != nullptr && *interface != '\0'
                                ? c10d::ProcessGroupGloo::createDeviceForInterface(interface)
                                : c10d::ProcessGroupGloo::createDeviceForHostname(options.local_address));
    gloo->threads = 1;  // one collective at a time
    const auto store = c10::make_intrusive<c10d::PrefixStore>(options.name, options.store);
    auto group = c10::make_intrusive<ClosableGloo>(store, options.rank, options.size, gloo);
    return std::make_unique<GlooCommunicator>(options, std::move(group));
  } catch (const std::exception& error) {
    const std::string text = error.what();
    throw EngineError(plan::ExitCode::kPeerLost, "rank " + std::to_string(options.rank) + " could not form group " +
                                                     options.name + " of " + std::to_string(options.size) +
                                                     " ranks: " + text.substr(0, text.find('\n')));
  }
}

}  // namespace ithaca::engine

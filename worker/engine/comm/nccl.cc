#include "worker/engine/comm/nccl.h"

#include <c10/cuda/CUDAFunctions.h>

#include <cstdlib>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

class NcclCommunicator : public C10dCommunicator {
 public:
  NcclCommunicator(const GroupOptions& options, c10::intrusive_ptr<c10d::ProcessGroupNCCL> nccl)
      : C10dCommunicator(options, nccl), nccl_(nccl.get()) {}
  ~NcclCommunicator() override {
    if (aborted()) {
      ReleaseBackend();
    } else {
      nccl_->shutdown();
    }
  }

 private:
  void Wait(c10d::Work& work) override {
    work.wait();
    // The watchdog aborts a group whose kernel will never end; what the stream then holds is not a result.
    const c10d::ErrorType error = nccl_->getError();
    TORCH_CHECK(error != c10d::ErrorType::REMOTE_ERROR, "ncclRemoteError: a peer is gone");
    TORCH_CHECK(error != c10d::ErrorType::TIMEOUT, "NCCL timed out");
    TORCH_CHECK(error != c10d::ErrorType::COMM_ERROR, "NCCL reported an error");
  }

  void Close() override { nccl_->abort(); }

  c10d::ProcessGroupNCCL* nccl_;  // owned by the base
};

}  // namespace

std::unique_ptr<Communicator> MakeNcclCommunicator(const GroupOptions& options) {
  // On failure: abort the communicators and report, but leave the end of the process (and its exit code) to the engine.
  setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "2", /*overwrite=*/0);
  try {
    const at::Device device(
        at::kCUDA, static_cast<c10::DeviceIndex>(options.local_rank % c10::cuda::device_count_ensure_non_zero()));
    c10::cuda::set_device(device.index());
    const auto nccl = c10d::ProcessGroupNCCL::Options::create();
    nccl->timeout = options.timeout;
    const auto store = c10::make_intrusive<c10d::PrefixStore>(options.name, options.store);
    auto group = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, options.rank, options.size, nccl);
    group->setBoundDeviceId(device);
    group->eagerConnectSingleDevice(device);
    return std::make_unique<NcclCommunicator>(options, std::move(group));
  } catch (const std::exception& error) {
    const std::string text = error.what();
    throw EngineError(plan::ExitCode::kCollectiveFailed, "rank " + std::to_string(options.rank) +
                                                             " could not form NCCL group " + options.name + ": " +
                                                             text.substr(0, text.find('\n')));
  }
}

}  // namespace ithaca::engine

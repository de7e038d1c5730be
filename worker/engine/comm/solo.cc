#include "worker/engine/comm/solo.h"

#include <atomic>
#include <mutex>

#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

class SoloCommunicator : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }

  void AllToAll(at::Tensor& output, const at::Tensor& input, const std::vector<int64_t>& output_splits,
                const std::vector<int64_t>& input_splits) override {
    CheckAlive();
    TORCH_CHECK(output_splits == input_splits && input_splits.size() == 1, "a group of one has one split");
    output.copy_(input);
  }
  void AllReduceSum(at::Tensor&) override { CheckAlive(); }
  void AllReduceMax(at::Tensor&) override { CheckAlive(); }
  void Broadcast(at::Tensor&, int) override { CheckAlive(); }
  void ReduceScatterSum(at::Tensor&) override { CheckAlive(); }
  void AllGather(at::Tensor&) override { CheckAlive(); }
  void Barrier() override { CheckAlive(); }
  void Abort(const std::string& reason) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    aborted_ = true;
    reason_ = reason;
  }
  int64_t bytes_sent() const override { return 0; }

 private:
  void CheckAlive() {
    if (!aborted_) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    throw EngineError(plan::ExitCode::kCollectiveFailed, "aborted: " + reason_);
  }

  std::atomic<bool> aborted_{false};
  std::mutex mutex_;
  std::string reason_;
};

}  // namespace

std::unique_ptr<Communicator> MakeSoloCommunicator() { return std::make_unique<SoloCommunicator>(); }

}  // namespace ithaca::engine

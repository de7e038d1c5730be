#include "worker/engine/comm/c10d_communicator.h"

#include <ATen/ATen.h>

#include <torch/csrc/distributed/c10d/Work.hpp>

#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

// A collective that only moves tensors moves bytes: every dtype is then the same to the backend.
at::Tensor AsBytes(const at::Tensor& tensor) {
  return tensor.dim() > 1 ? tensor.view(at::kByte) : tensor.unsqueeze(-1).view(at::kByte);
}

std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

// What the transports say when the other end of a connection is gone, as opposed to late or in disagreement.
bool SaysPeerIsGone(const std::string& text) {
  for (const char* sign : {"Connection closed by peer", "Connection reset by peer", "Broken pipe", "Connection refused",
                           "remote process exited", "ncclRemoteError"}) {
    if (text.find(sign) != std::string::npos) return true;
  }
  return false;
}

}  // namespace

C10dCommunicator::C10dCommunicator(const GroupOptions& options, c10::intrusive_ptr<c10d::Backend> backend)
    : name_(options.name), rank_(options.rank), size_(options.size), backend_(std::move(backend)) {}

template <typename Start>
void C10dCommunicator::Run(const char* what, Start start) {
  if (aborted_) ThrowAborted();
  try {
    const c10::intrusive_ptr<c10d::Work> work = start();
    Wait(*work);
  } catch (const std::exception& error) {
    const std::string text = error.what();
    const bool gone = SaysPeerIsGone(text);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!aborted_) peer_lost_ = gone;
    }
    Abort(std::string(what) + " failed: " + (gone ? "a peer closed its connection (" : "(") + FirstLine(text) + ")");
  }
  if (aborted_) ThrowAborted();
}

void C10dCommunicator::ThrowAborted() {
  const std::lock_guard<std::mutex> lock(mutex_);
  throw EngineError(
      peer_lost_ ? plan::ExitCode::kPeerLost : plan::ExitCode::kCollectiveFailed,
      "rank " + std::to_string(rank_) + " of " + std::to_string(size_) + " in group " + name_ + ": " + reason_);
}

void C10dCommunicator::AllToAll(at::Tensor& output, const at::Tensor& input, const std::vector<int64_t>& output_splits,
                                const std::vector<int64_t>& input_splits) {
  at::Tensor output_bytes = AsBytes(output);
  at::Tensor input_bytes = AsBytes(input);
  std::vector<int64_t> to = output_splits, from = input_splits;
  Run("all-to-all", [&] { return backend_->alltoall_base(output_bytes, input_bytes, to, from); });
  if (input.size(0) > 0) bytes_sent_ += (input.size(0) - input_splits[rank_]) * (input_bytes.numel() / input.size(0));
}

void C10dCommunicator::AllReduce(const char* what, at::Tensor& tensor, c10d::ReduceOp op) {
  c10d::AllreduceOptions options;
  options.reduceOp = op;
  std::vector<at::Tensor> tensors{tensor};
  Run(what, [&] { return backend_->allreduce(tensors, options); });
  bytes_sent_ += 2 * static_cast<int64_t>(tensor.nbytes()) * (size_ - 1) / size_;
}

void C10dCommunicator::AllReduceSum(at::Tensor& tensor) { AllReduce("all-reduce", tensor, c10d::ReduceOp::SUM); }

void C10dCommunicator::AllReduceMax(at::Tensor& tensor) { AllReduce("all-reduce", tensor, c10d::ReduceOp::MAX); }

void C10dCommunicator::Broadcast(at::Tensor& tensor, int root) {
  c10d::BroadcastOptions options;
  options.rootRank = root;
  std::vector<at::Tensor> tensors{tensor};
  Run("broadcast", [&] { return backend_->broadcast(tensors, options); });
  if (rank_ == root) bytes_sent_ += static_cast<int64_t>(tensor.nbytes()) * (size_ - 1);
}

void C10dCommunicator::ReduceScatterSum(at::Tensor& parts) {
  TORCH_CHECK(parts.numel() % size_ == 0, "not of equal parts");
  const int64_t count = parts.numel() / size_;
  at::Tensor mine = parts.narrow(0, rank_ * count, count);
  c10d::ReduceScatterOptions options;
  options.reduceOp = c10d::ReduceOp::SUM;
  Run("reduce-scatter", [&] { return backend_->_reduce_scatter_base(mine, parts, options); });
  bytes_sent_ += static_cast<int64_t>(parts.nbytes()) * (size_ - 1) / size_;
}

void C10dCommunicator::AllGather(at::Tensor& parts) {
  TORCH_CHECK(parts.numel() % size_ == 0, "not of equal parts");
  const int64_t count = parts.numel() / size_;
  at::Tensor mine = parts.narrow(0, rank_ * count, count);
  Run("all-gather", [&] { return backend_->_allgather_base(parts, mine); });
  bytes_sent_ += static_cast<int64_t>(mine.nbytes()) * (size_ - 1);
}

void C10dCommunicator::Barrier() {
  Run("barrier", [&] { return backend_->barrier(); });
}

void C10dCommunicator::Abort(const std::string& reason) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (aborted_) return;
    reason_ = reason;
    aborted_ = true;
  }
  Close();
}

void C10dCommunicator::ReleaseBackend() { backend_.release(); }

}  // namespace ithaca::engine

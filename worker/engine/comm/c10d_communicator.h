#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <vector>

#include "worker/engine/comm/communicator.h"

namespace ithaca::engine {

// One rank's place in a group that is about to be formed.
struct GroupOptions {
  std::string name;  // the same on all its ranks, and no other group's; for the store's keys and for messages
  c10::intrusive_ptr<c10d::Store> store;
  int rank = 0;
  int size = 1;
  std::string local_address;                  // of the interface to use, in digits (Gloo)
  int local_rank = 0;                         // the CUDA device (NCCL)
  std::chrono::milliseconds timeout{600000};  // of forming the group and of each collective
};

// What Gloo and NCCL share: a c10d backend called in one order, its failures turned into EngineError. After the first
// failure the connections are closed, so that the other ranks fail too instead of waiting for their timeout, and every
// later call throws the same error. One thread calls the collectives; Abort may come from any.
class C10dCommunicator : public Communicator {
 public:
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void AllToAll(at::Tensor& output, const at::Tensor& input, const std::vector<int64_t>& output_splits,
                const std::vector<int64_t>& input_splits) override;
  void AllReduceSum(at::Tensor& tensor) override;
  void AllReduceMax(at::Tensor& tensor) override;
  void Broadcast(at::Tensor& tensor, int root) override;
  void ReduceScatterSum(at::Tensor& parts) override;
  void AllGather(at::Tensor& parts) override;
  void Barrier() override;
  void Abort(const std::string& reason) override;
  int64_t bytes_sent() const override { return bytes_sent_; }

 protected:
  C10dCommunicator(const GroupOptions& options, c10::intrusive_ptr<c10d::Backend> backend);

  // Returns once the work is done (CPU) or ordered before later work of the stream (CUDA); throws what went wrong.
  // Returns early if the group is aborted.
  virtual void Wait(c10d::Work& work) = 0;
  // Ends the connections; from any thread, once.
  virtual void Close() = 0;

  bool aborted() const { return aborted_; }
  c10d::Backend& backend() { return *backend_; }
  // After an abort the backend may have work that never ends: it is left to the end of the process.
  void ReleaseBackend();

 private:
  template <typename Start>
  void Run(const char* what, Start start);
  void AllReduce(const char* what, at::Tensor& tensor, c10d::ReduceOp op);
  [[noreturn]] void ThrowAborted();

  const std::string name_;
  const int rank_, size_;
  c10::intrusive_ptr<c10d::Backend> backend_;
  std::atomic<int64_t> bytes_sent_{0};
  std::atomic<bool> aborted_{false};
  std::mutex mutex_;  // guards the two below
  std::string reason_;
  bool peer_lost_ = false;
};

}  // namespace ithaca::engine

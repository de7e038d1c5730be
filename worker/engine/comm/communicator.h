#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace ithaca::engine {

// A group of ranks that exchange tensors: Gloo (CPU, or CUDA staged through the host), NCCL, or a group of one. Every
// rank calls the same collectives in the same order from one thread. All calls complete in stream order (CUDA) or
// before they return (CPU). Tensors are contiguous, of one dtype and device. Throws EngineError (collective failed,
// peer lost).
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Along dimension 0: rows [sum of input_splits before r, ...) go to rank r; output rows come in rank order. Bits move
  // unchanged.
  virtual void AllToAll(at::Tensor& output, const at::Tensor& input, const std::vector<int64_t>& output_splits,
                        const std::vector<int64_t>& input_splits) = 0;
  // In place. Sums, never averages. The order of addition does not depend on timing.
  virtual void AllReduceSum(at::Tensor& tensor) = 0;
  virtual void AllReduceMax(at::Tensor& tensor) = 0;
  virtual void Broadcast(at::Tensor& tensor, int root) = 0;
  // A flat tensor of size() equal parts, in place. ReduceScatterSum: part rank() becomes its sum over all ranks, the
  // others are undefined. AllGather: part r becomes that of rank r.
  virtual void ReduceScatterSum(at::Tensor& parts) = 0;
  virtual void AllGather(at::Tensor& parts) = 0;
  virtual void Barrier() = 0;
  // From any thread: makes pending and later collectives on this rank fail.
  virtual void Abort(const std::string& reason) = 0;

  // Bytes sent by this rank so far, for reports.
  virtual int64_t bytes_sent() const = 0;
};

}  // namespace ithaca::engine

#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>

#include "absl/synchronization/mutex.h"
#include "ithaca/v1/worker_service.grpc.pb.h"
#include "server/core/worker_hub.h"

namespace ithaca {

// WorkerService over the hub: one thread reads a worker's stream, one writes what the hub queues for it. Called from
// gRPC's threads. Owned by the RpcServer; the hub outlives it.
class WorkerServiceImpl final : public v1::WorkerService::Service {
 public:
  explicit WorkerServiceImpl(WorkerHub& hub) : hub_(hub) {}

  grpc::Status Attach(grpc::ServerContext* context,
                      grpc::ServerReaderWriter<v1::CoordinatorMessage, v1::WorkerMessage>* stream) override;

 private:
  WorkerHub& hub_;
};

}  // namespace ithaca

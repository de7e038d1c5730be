#pragma once

#include <grpcpp/support/server_interceptor.h>

#include <functional>
#include <string>

#include "absl/time/time.h"

namespace ithaca {

// An RPC that has ended.
struct RpcEnd {
  std::string service;  // "ithaca.v1.JobService"
  std::string method;   // "GetJob"
  std::string code;     // "NOT_FOUND"
  bool unary = false;
  absl::Duration duration;
};

// Called at the end of every RPC, from gRPC's threads.
using RpcObserver = std::function<void(const RpcEnd&)>;

// Tells an observer of every RPC of registered services. gRPC owns it.
class RpcInterceptorFactory : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit RpcInterceptorFactory(RpcObserver observer) : observer_(std::move(observer)) {}

  grpc::experimental::Interceptor* CreateServerInterceptor(grpc::experimental::ServerRpcInfo* info) override;

 private:
  const RpcObserver observer_;
};

}  // namespace ithaca

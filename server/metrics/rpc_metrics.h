#pragma once

#include <grpcpp/support/server_interceptor.h>
#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

namespace ithaca {

// Counts every RPC by method and status code, and times the unary ones. An interceptor factory: gRPC owns it and calls
// it from its threads. The registry outlives it.
class RpcMetrics : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit RpcMetrics(prometheus::Registry& registry);

  grpc::experimental::Interceptor* CreateServerInterceptor(grpc::experimental::ServerRpcInfo* info) override;

 private:
  prometheus::Family<prometheus::Counter>& handled_;
  prometheus::Family<prometheus::Histogram>& seconds_;
};

}  // namespace ithaca

#include "server/metrics/rpc_metrics.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace ithaca {
namespace {

using grpc::experimental::InterceptionHookPoints;

constexpr const char* kCodes[] = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};

class Observer : public grpc::experimental::Interceptor {
 public:
  Observer(prometheus::Family<prometheus::Counter>& handled, prometheus::Family<prometheus::Histogram>& seconds,
           const grpc::experimental::ServerRpcInfo& info)
      : handled_(handled), seconds_(seconds), unary_(info.type() == grpc::experimental::ServerRpcInfo::Type::UNARY) {
    const std::vector<std::string> parts = absl::StrSplit(info.method(), '/', absl::SkipEmpty());
    if (parts.size() == 2) labels_ = {{"service", parts[0]}, {"method", parts[1]}};
  }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      if (unary_) {
        static const prometheus::Histogram::BucketBoundaries kBounds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                                                        0.25,  0.5,    1,     2.5,  5,     10};
        seconds_.Add(labels_, kBounds).Observe(absl::ToDoubleSeconds(absl::Now() - start_));
      }
      const auto code = static_cast<size_t>(methods->GetSendStatus().error_code());
      labels_["code"] = code < std::size(kCodes) ? kCodes[code] : "UNKNOWN";
      handled_.Add(labels_).Increment();
    }
    methods->Proceed();
  }

 private:
  prometheus::Family<prometheus::Counter>& handled_;
  prometheus::Family<prometheus::Histogram>& seconds_;
  const bool unary_;
  const absl::Time start_ = absl::Now();
  std::map<std::string, std::string> labels_;
};

}  // namespace

RpcMetrics::RpcMetrics(prometheus::Registry& registry)
    : handled_(prometheus::BuildCounter()
                   .Name("ithaca_grpc_server_handled_total")
                   .Help("RPCs that have ended, by status code.")
                   .Register(registry)),
      seconds_(prometheus::BuildHistogram()
                   .Name("ithaca_grpc_server_handling_seconds")
                   .Help("How long unary RPCs took.")
                   .Register(registry)) {}

grpc::experimental::Interceptor* RpcMetrics::CreateServerInterceptor(grpc::experimental::ServerRpcInfo* info) {
  return new Observer(handled_, seconds_, *info);
}

}  // namespace ithaca

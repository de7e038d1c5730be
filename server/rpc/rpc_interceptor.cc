#include "server/rpc/rpc_interceptor.h"

#include <iterator>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/time/clock.h"

namespace ithaca {
namespace {

using grpc::experimental::InterceptionHookPoints;

constexpr const char* kCodes[] = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};

class Interceptor : public grpc::experimental::Interceptor {
 public:
  Interceptor(const RpcObserver& observer, const grpc::experimental::ServerRpcInfo& info) : observer_(observer) {
    const std::vector<std::string> parts = absl::StrSplit(info.method(), '/', absl::SkipEmpty());
    if (parts.size() == 2) {
      end_.service = parts[0];
      end_.method = parts[1];
    }
    end_.unary = info.type() == grpc::experimental::ServerRpcInfo::Type::UNARY;
  }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      const auto code = static_cast<size_t>(methods->GetSendStatus().error_code());
      end_.code = code < std::size(kCodes) ? kCodes[code] : "UNKNOWN";
      end_.duration = absl::Now() - start_;
      observer_(end_);
    }
    methods->Proceed();
  }

 private:
  const RpcObserver& observer_;
  const absl::Time start_ = absl::Now();
  RpcEnd end_;
};

}  // namespace

grpc::experimental::Interceptor* RpcInterceptorFactory::CreateServerInterceptor(
    grpc::experimental::ServerRpcInfo* info) {
  return new Interceptor(observer_, *info);
}

}  // namespace ithaca

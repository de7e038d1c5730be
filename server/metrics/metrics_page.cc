#include "server/metrics/metrics_page.h"

#include <prometheus/gauge.h>
#include <prometheus/text_serializer.h>

#include <utility>
#include <vector>

namespace ithaca {

MetricsPage::MetricsPage(const JobTable& table, absl::Duration hold, const std::string& version)
    : jobs_(table, hold),
      handled_(prometheus::BuildCounter()
                   .Name("ithaca_grpc_server_handled_total")
                   .Help("RPCs that have ended, by status code.")
                   .Register(registry_)),
      seconds_(prometheus::BuildHistogram()
                   .Name("ithaca_grpc_server_handling_seconds")
                   .Help("How long unary RPCs took.")
                   .Register(registry_)) {
  prometheus::BuildGauge()
      .Name("ithaca_build_info")
      .Help("1, with the version of this coordinator.")
      .Register(registry_)
      .Add({{"version", version}})
      .Set(1);
}

void MetricsPage::CountRpc(const std::string& service, const std::string& method, const std::string& code, bool unary,
                           absl::Duration duration) {
  handled_.Add({{"service", service}, {"method", method}, {"code", code}}).Increment();
  if (!unary) return;
  static const prometheus::Histogram::BucketBoundaries kBounds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                                                  0.25,  0.5,    1,     2.5,  5,     10};
  seconds_.Add({{"service", service}, {"method", method}}, kBounds).Observe(absl::ToDoubleSeconds(duration));
}

std::string MetricsPage::Text() const {
  std::vector<prometheus::MetricFamily> families = registry_.Collect();
  for (prometheus::MetricFamily& family : jobs_.Collect()) families.push_back(std::move(family));
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace ithaca

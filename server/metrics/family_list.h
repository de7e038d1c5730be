#pragma once

#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace ithaca {

// Builds metric families for one scrape. A family appears in the order of its first declaration, samples or not counts:
// one without samples is left out. One thread.
class FamilyList {
 public:
  using Labels = std::vector<std::pair<std::string, std::string>>;

  void Gauge(const std::string& name, const std::string& help, const Labels& labels, double value) {
    prometheus::ClientMetric& metric = Add(name, help, prometheus::MetricType::Gauge, labels);
    metric.gauge.value = value;
  }

  void Counter(const std::string& name, const std::string& help, const Labels& labels, double value) {
    prometheus::ClientMetric& metric = Add(name, help, prometheus::MetricType::Counter, labels);
    metric.counter.value = value;
  }

  std::vector<prometheus::MetricFamily> Take() { return std::move(families_); }

 private:
  prometheus::ClientMetric& Add(const std::string& name, const std::string& help, prometheus::MetricType type,
                                const Labels& labels) {
    const auto [place, added] = index_.emplace(name, families_.size());
    if (added) families_.push_back({name, help, type, {}});
    prometheus::ClientMetric& metric = families_[place->second].metric.emplace_back();
    for (const auto& [label, value] : labels) metric.label.push_back({label, value});
    return metric;
  }

  std::vector<prometheus::MetricFamily> families_;
  std::map<std::string, size_t> index_;
};

}  // namespace ithaca

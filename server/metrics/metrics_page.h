#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <string>

#include "absl/time/time.h"
#include "server/core/job_table.h"
#include "server/metrics/job_collector.h"

namespace ithaca {

// What /metrics says, in Prometheus' text format: the jobs and slots as they are now, RPCs since the start, and the
// build. Owned by main; all methods may be called from any thread. The table outlives it.
class MetricsPage {
 public:
  // Series of a job stay for `hold` after it has ended.
  MetricsPage(const JobTable& table, absl::Duration hold, const std::string& version);

  // Counts an RPC that has ended, and times it if it was unary.
  void CountRpc(const std::string& service, const std::string& method, const std::string& code, bool unary,
                absl::Duration duration);

  std::string Text() const;

 private:
  prometheus::Registry registry_;
  JobCollector jobs_;
  prometheus::Family<prometheus::Counter>& handled_;
  prometheus::Family<prometheus::Histogram>& seconds_;
};

}  // namespace ithaca

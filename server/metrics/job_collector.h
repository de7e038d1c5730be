#pragma once

#include <prometheus/collectable.h>

#include <vector>

#include "absl/time/time.h"
#include "server/core/job_table.h"

namespace ithaca {

// The Prometheus families of jobs and slots, made anew from the job table at every scrape: a series is there exactly
// while its job is live and for `hold` after, and no value is ever stale. Labels are `job`, `job_name`, `rank` and
// bounded enums. Shared by the HTTP server's threads; the table outlives it.
class JobCollector : public prometheus::Collectable {
 public:
  JobCollector(const JobTable& table, absl::Duration hold) : table_(table), hold_(hold) {}

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const JobTable& table_;
  const absl::Duration hold_;
};

}  // namespace ithaca

#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "server/core/clock.h"
#include "server/core/history.h"
#include "server/core/job_table.h"
#include "server/metrics/status_page.h"

namespace ithaca {

// Gathers what the status page shows: live jobs first, then the newest that have ended, at most a few dozen. Keeps a
// thinned-out loss curve of each job it shows, read on from where the last request stopped. Shared by the HTTP server's
// threads; table, history and clock outlive it.
class StatusSource {
 public:
  StatusSource(JobTable& table, History& history, const Clock& clock, std::string version)
      : table_(table), history_(history), clock_(clock), version_(std::move(version)) {}

  StatusView View();

 private:
  struct Curve {
    std::string cursor;
    int64_t stride = 1;  // every so many steps is a point
    std::vector<std::pair<int64_t, double>> points;
  };

  std::vector<double> Losses(const std::string& job_id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  JobTable& table_;
  History& history_;
  const Clock& clock_;
  const std::string version_;
  absl::Mutex mutex_;
  std::map<std::string, Curve> curves_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ithaca

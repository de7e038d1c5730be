#pragma once

#include <functional>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace ithaca::fakes {

// Whether `condition` came true. Looks often, gives up only after a time that no healthy machine needs.
inline bool WaitFor(const std::function<bool()>& condition, absl::Duration limit = absl::Seconds(60)) {
  const absl::Time end = absl::Now() + limit;
  while (!condition()) {
    if (absl::Now() > end) return false;
    absl::SleepFor(absl::Milliseconds(5));
  }
  return true;
}

}  // namespace ithaca::fakes

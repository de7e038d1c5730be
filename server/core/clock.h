#pragma once

#include "absl/time/time.h"

namespace ithaca {

// The time of day, the only one server/core knows: tests pass a clock of their own. Thread-safe; outlives its users.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;

  // The machine's clock; never destroyed.
  static const Clock& Real();
};

}  // namespace ithaca

#pragma once

#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace ithaca {

// Makes job ids: "j", nine characters of time and five random ones, such as "j0k2v9c3m1x7tq4". Digits and lower-case
// letters, so good as a DNS label; in order of creation when sorted as text. Thread-safe.
class JobIds {
 public:
  std::string Next(absl::Time now);

 private:
  absl::Mutex mutex_;
  int64_t last_millisecond_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Whether the text has the form of such an id.
bool IsJobId(const std::string& text);

// 256 random bits from the system, as hexadecimal text.
std::string NewToken();

// Equality in a time that does not depend on where they differ.
bool SameSecret(const std::string& a, const std::string& b);

}  // namespace ithaca

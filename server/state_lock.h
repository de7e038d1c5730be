#pragma once

#include <filesystem>
#include <utility>

#include "absl/status/statusor.h"

namespace ithaca {

// Makes this process the only coordinator of a state directory for as long as the object lives; the kernel lets go when
// the process ends, however it ends.
class StateLock {
 public:
  // Makes the directory if it is not there, for its owner alone. FAILED_PRECONDITION when another coordinator has it;
  // UNAVAILABLE when it cannot be made or written.
  static absl::StatusOr<StateLock> Take(const std::filesystem::path& directory);

  StateLock(StateLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  StateLock& operator=(StateLock&&) = delete;
  ~StateLock();

 private:
  explicit StateLock(int fd) : fd_(fd) {}

  int fd_;
};

}  // namespace ithaca

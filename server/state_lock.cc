#include "server/state_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace ithaca {
namespace {

std::string HolderOf(int fd) {
  char text[32] = {};
  const ssize_t n = ::pread(fd, text, sizeof text - 1, 0);
  int pid = 0;
  return n > 0 && absl::SimpleAtoi(text, &pid) ? absl::StrCat(" (process ", pid, ")") : "";
}

}  // namespace

absl::StatusOr<StateLock> StateLock::Take(const std::filesystem::path& directory) {
  std::error_code error;
  const bool made = std::filesystem::create_directories(directory, error);
  if (error) {
    return absl::UnavailableError(
        absl::StrCat("Cannot make the state directory ", directory.string(), ": ", error.message(), "."));
  }
  if (made) ::chmod(directory.c_str(), 0700);
  const std::string path = directory / "lock";
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return absl::UnavailableError(absl::StrCat("Cannot write ", path, ": ", std::strerror(errno), "."));
  StateLock lock(fd);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    return absl::FailedPreconditionError(absl::StrCat("Another coordinator", HolderOf(fd),
                                                      " runs on the state directory ", directory.string(),
                                                      "; a second one is refused."));
  }
  const std::string pid = absl::StrCat(::getpid(), "\n");
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, pid.data(), pid.size(), 0) < 0) {
    return absl::UnavailableError(absl::StrCat("Cannot write ", path, ": ", std::strerror(errno), "."));
  }
  return lock;
}

StateLock::~StateLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace ithaca

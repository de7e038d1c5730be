#include "server/core/run_file.h"

#include <cerrno>
#include <fstream>
#include <iterator>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace ithaca {
namespace {

constexpr char kName[] = "run.json";

}  // namespace

absl::Status WriteRunFile(const std::filesystem::path& directory, const std::string& run_json) {
  const std::filesystem::path path = directory / kName;
  const std::filesystem::path temporary = directory / absl::StrCat(kName, ".tmp");
  std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
  file << run_json;
  file.close();
  if (!file) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path.string()));
  std::error_code error;
  std::filesystem::rename(temporary, path, error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot rename ", path.string()));
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadRunFile(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / kName;
  std::ifstream file(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file.is_open() || file.bad()) return absl::UnavailableError(absl::StrCat("cannot read ", path.string()));
  return text;
}

v1::CoordinatorMessage StopOf(const JobRecord& job) {
  v1::CoordinatorMessage message;
  v1::Stop& stop = *message.mutable_stop();
  stop.set_reason(job.job.reason());
  stop.set_grace_seconds(absl::ToInt64Seconds(absl::Ceil(job.stop_grace, absl::Seconds(1))));
  const bool cancelled = job.job.reason() == v1::JOB_REASON_CANCEL_REQUESTED;
  stop.set_save(job.job.reason() == v1::JOB_REASON_PAUSE_REQUESTED || job.job.reason() == v1::JOB_REASON_RUN_TIMEOUT ||
                (cancelled && job.stop_grace > absl::ZeroDuration()));
  return message;
}

}  // namespace ithaca

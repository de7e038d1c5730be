#include "server/store/disk_attempt_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "proto/status_macros.h"
#include "server/core/identifiers.h"
#include "server/store/event_lines.h"
#include "server/store/storage_error.h"

namespace ithaca {
namespace {

// A file open for reading; -1 if there is none.
class ReadOnlyFile {
 public:
  explicit ReadOnlyFile(const std::filesystem::path& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~ReadOnlyFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  ReadOnlyFile(const ReadOnlyFile&) = delete;
  ReadOnlyFile& operator=(const ReadOnlyFile&) = delete;

  int fd() const { return fd_; }

 private:
  int fd_;
};

absl::Status FilesystemError(const std::error_code& error, const std::string& doing,
                             const std::filesystem::path& path) {
  const std::string message = absl::StrCat("cannot ", doing, " ", path.string(), ": ", error.message());
  return StorageError(
      error == std::errc::no_space_on_device ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kUnavailable,
      message);
}

absl::Status ReadError(int error, const std::string& what) {
  return StorageError(absl::StatusCode::kUnavailable,
                      absl::StrCat("cannot read ", what, ": ", std::generic_category().message(error)));
}

}  // namespace

std::filesystem::path DiskAttemptFiles::JobDirectory(const std::string& job_id) const {
  return root_ / "jobs" / job_id;
}

std::filesystem::path DiskAttemptFiles::Directory(const AttemptKey& key) const {
  return JobDirectory(key.job_id) / "attempts" / absl::StrCat(key.number);
}

absl::StatusOr<std::filesystem::path> DiskAttemptFiles::MakeDirectory(const AttemptKey& key) {
  const std::filesystem::path directory = Directory(key);
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return FilesystemError(error, "make", directory);
  return directory;
}

absl::StatusOr<std::shared_ptr<AttemptFileWriter>> DiskAttemptFiles::WriterOf(const AttemptKey& key) {
  absl::MutexLock lock(&mutex_);
  const auto found = writers_.find(key);
  if (found != writers_.end()) return found->second;
  ASSIGN_OR_RETURN(const std::filesystem::path directory, MakeDirectory(key));
  ASSIGN_OR_RETURN(std::shared_ptr<AttemptFileWriter> writer, AttemptFileWriter::Open(directory));
  writers_[key] = writer;
  return writer;
}

absl::StatusOr<bool> DiskAttemptFiles::AppendEvent(const AttemptKey& key, EventFile file,
                                                   const EngineEventRecord& event) {
  ASSIGN_OR_RETURN(const std::shared_ptr<AttemptFileWriter> writer, WriterOf(key));
  return writer->AppendEvent(file, event);
}

absl::Status DiskAttemptFiles::AppendLog(const AttemptKey& key, int rank, int64_t offset, std::string_view data) {
  ASSIGN_OR_RETURN(const std::shared_ptr<AttemptFileWriter> writer, WriterOf(key));
  return writer->AppendLog(rank, offset, data);
}

absl::StatusOr<std::map<int, RankPositions>> DiskAttemptFiles::Positions(const AttemptKey& key) {
  ASSIGN_OR_RETURN(const std::shared_ptr<AttemptFileWriter> writer, WriterOf(key));
  return writer->Positions();
}

absl::StatusOr<EventPage> DiskAttemptFiles::ReadEvents(const AttemptKey& key, EventFile file, int64_t position,
                                                       int max_events) {
  const ReadOnlyFile opened(Directory(key) / EventFileName(file));
  if (opened.fd() < 0) {
    if (errno != ENOENT) return ReadError(errno, "an attempt's events");
    EventPage none;
    none.next_position = position;
    return none;
  }
  return ReadLines(opened.fd(), position, max_events);
}

absl::StatusOr<std::string> DiskAttemptFiles::ReadLog(const AttemptKey& key, int rank, int64_t offset,
                                                      int64_t max_bytes) {
  const ReadOnlyFile opened(Directory(key) / LogFileName(rank));
  if (opened.fd() < 0) {
    if (errno == ENOENT) return std::string();
    return ReadError(errno, "a log");
  }
  std::string data(static_cast<size_t>(max_bytes), '\0');
  ssize_t count = 0;
  do {
    count = ::pread(opened.fd(), data.data(), data.size(), offset);
  } while (count < 0 && errno == EINTR);
  if (count < 0) return ReadError(errno, "a log");
  data.resize(static_cast<size_t>(count));
  return data;
}

absl::StatusOr<std::vector<int>> DiskAttemptFiles::LogRanks(const AttemptKey& key) {
  return RanksWithLogs(Directory(key));
}

void DiskAttemptFiles::Close(const AttemptKey& key) {
  absl::MutexLock lock(&mutex_);
  writers_.erase(key);
}

absl::Status DiskAttemptFiles::RemoveJob(const std::string& job_id) {
  {
    absl::MutexLock lock(&mutex_);
    std::erase_if(writers_, [&](const auto& writer) { return writer.first.job_id == job_id; });
  }
  std::error_code error;
  std::filesystem::remove_all(JobDirectory(job_id) / "attempts", error);
  if (error) return FilesystemError(error, "remove", JobDirectory(job_id));
  std::filesystem::remove(JobDirectory(job_id), error);  // stays while it holds checkpoints
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> DiskAttemptFiles::StoredJobs() {
  std::vector<std::string> ids;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(root_ / "jobs", error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    std::error_code ignored;  // what cannot be looked into has nothing to remove
    if (IsJobId(name) && std::filesystem::is_directory(entry->path() / "attempts", ignored)) ids.push_back(name);
  }
  if (error && error != std::errc::no_such_file_or_directory) return FilesystemError(error, "list", root_ / "jobs");
  return ids;
}

}  // namespace ithaca

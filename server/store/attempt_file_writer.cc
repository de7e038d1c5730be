#include "server/store/attempt_file_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "proto/status_macros.h"
#include "server/store/event_lines.h"
#include "server/store/storage_error.h"

namespace ithaca {
namespace {

absl::Status FileError(int error, const std::string& doing, const std::string& path) {
  const std::string message = absl::StrCat("cannot ", doing, " ", path);
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
    return StorageError(absl::StatusCode::kResourceExhausted,
                        absl::StrCat(message, ": the disk, quota or file size limit is full"));
  }
  return StorageError(absl::StatusCode::kUnavailable, std::string(absl::ErrnoToStatus(error, message).message()));
}

}  // namespace

std::string EventFileName(EventFile file) { return file == EventFile::kSteps ? "steps.jsonl" : "events.jsonl"; }

std::string LogFileName(int rank) { return absl::StrCat("rank-", rank, ".log"); }

absl::StatusOr<GrowingFile> GrowingFile::Open(const std::filesystem::path& path) {
  GrowingFile file;
  file.path_ = path.string();
  file.fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640);
  if (file.fd_ < 0) return FileError(errno, "open", file.path_);
  struct stat status;
  if (::fstat(file.fd_, &status) != 0) return FileError(errno, "look at", file.path_);
  file.size_ = status.st_size;
  return file;
}

GrowingFile::GrowingFile(GrowingFile&& other) noexcept { *this = std::move(other); }

GrowingFile& GrowingFile::operator=(GrowingFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(size_, other.size_);
  return *this;
}

GrowingFile::~GrowingFile() {
  if (fd_ >= 0) ::close(fd_);
}

absl::Status GrowingFile::WriteAt(int64_t position, std::string_view data) {
  int64_t at = position;
  while (!data.empty()) {
    const ssize_t count = ::pwrite(fd_, data.data(), data.size(), at);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      const absl::Status error = FileError(errno, "write", path_);
      (void)CutTo(size_);  // the write's own error is the one to report
      return error;
    }
    at += count;
    data.remove_prefix(static_cast<size_t>(count));
  }
  size_ = at;
  return absl::OkStatus();
}

absl::Status GrowingFile::CutTo(int64_t size) {
  if (::ftruncate(fd_, size) != 0) return FileError(errno, "cut", path_);
  size_ = size;
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<AttemptFileWriter>> AttemptFileWriter::Open(const std::filesystem::path& directory) {
  std::unique_ptr<AttemptFileWriter> writer(new AttemptFileWriter(directory));
  absl::MutexLock lock(&writer->mutex_);
  RETURN_IF_ERROR(writer->Recover());
  return writer;
}

absl::Status AttemptFileWriter::Recover() {
  for (const EventFile kind : {EventFile::kSteps, EventFile::kEvents}) {
    const std::string name = EventFileName(kind);
    if (!std::filesystem::exists(directory_ / name)) continue;
    ASSIGN_OR_RETURN(GrowingFile * file, FileOf(name));
    EventPage page;
    do {
      ASSIGN_OR_RETURN(page, ReadLines(file->fd(), page.next_position, /*max_events=*/4096));
      for (const EngineEventRecord& event : page.events) {
        int64_t& next = positions_[event.rank].event_offset;
        next = std::max(next, event.offset + static_cast<int64_t>(event.json.size()) + 1);
      }
    } while (!page.at_end);
    if (page.next_position < file->size()) RETURN_IF_ERROR(file->CutTo(page.next_position));
  }
  ASSIGN_OR_RETURN(const std::vector<int> ranks, RanksWithLogs(directory_));
  for (const int rank : ranks) {
    ASSIGN_OR_RETURN(const GrowingFile* file, FileOf(LogFileName(rank)));
    positions_[rank].log_offset = file->size();
  }
  return absl::OkStatus();
}

absl::StatusOr<GrowingFile*> AttemptFileWriter::FileOf(const std::string& name) {
  const auto found = files_.find(name);
  if (found != files_.end()) return &found->second;
  ASSIGN_OR_RETURN(GrowingFile file, GrowingFile::Open(directory_ / name));
  return &files_.emplace(name, std::move(file)).first->second;
}

absl::StatusOr<bool> AttemptFileWriter::AppendEvent(EventFile file, const EngineEventRecord& event) {
  absl::MutexLock lock(&mutex_);
  int64_t& next = positions_[event.rank].event_offset;
  if (event.offset < next) return false;
  ASSIGN_OR_RETURN(GrowingFile * growing, FileOf(EventFileName(file)));
  RETURN_IF_ERROR(growing->Append(ToLine(event)));
  next = event.offset + static_cast<int64_t>(event.json.size()) + 1;
  return true;
}

absl::Status AttemptFileWriter::AppendLog(int rank, int64_t offset, std::string_view data) {
  absl::MutexLock lock(&mutex_);
  int64_t& next = positions_[rank].log_offset;
  if (offset < next) {
    const auto known = static_cast<size_t>(next - offset);
    if (data.size() <= known) return absl::OkStatus();
    data.remove_prefix(known);
    offset = next;
  }
  ASSIGN_OR_RETURN(GrowingFile * file, FileOf(LogFileName(rank)));
  RETURN_IF_ERROR(file->WriteAt(offset, data));
  next = file->size();
  return absl::OkStatus();
}

std::map<int, RankPositions> AttemptFileWriter::Positions() {
  absl::MutexLock lock(&mutex_);
  return positions_;
}

absl::StatusOr<std::vector<int>> RanksWithLogs(const std::filesystem::path& directory) {
  std::vector<int> ranks;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    absl::string_view number = name;
    int rank = 0;
    if (absl::ConsumePrefix(&number, "rank-") && absl::ConsumeSuffix(&number, ".log") &&
        absl::SimpleAtoi(number, &rank)) {
      ranks.push_back(rank);
    }
  }
  if (error && error.value() != ENOENT) return FileError(error.value(), "list", directory.string());
  std::ranges::sort(ranks);
  return ranks;
}

}  // namespace ithaca

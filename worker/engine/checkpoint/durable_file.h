#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ithaca::engine {

struct FileDigest {
  int64_t bytes = 0;
  std::string sha256;  // lower-case hex
};

// A new file, written front to back and hashed on the way. Owned by one thread. Every failure (full disk, file size
// limit, permission) throws EngineError (checkpoint I/O) that names the file; the unfinished file is the caller's to
// remove. The process must ignore SIGXFSZ for a file size limit to be an error and not a signal.
class DurableFile {
 public:
  explicit DurableFile(std::string path);
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;
  ~DurableFile();

  void Write(const void* data, int64_t bytes);
  void Write(std::string_view text) { Write(text.data(), static_cast<int64_t>(text.size())); }

  // Flushes to the disk and closes. Without it the file counts as unfinished.
  FileDigest Commit();

 private:
  [[noreturn]] void Fail(const char* what);

  std::string path_;
  int fd_ = -1;
  int64_t bytes_ = 0;
  void* hash_ = nullptr;  // EVP_MD_CTX
};

// Size and SHA-256 of a file. Throws EngineError (checkpoint I/O) if it cannot be read.
FileDigest DigestFile(const std::string& path);

// Makes names created in or renamed into `directory` durable. Throws EngineError (checkpoint I/O).
void SyncDirectory(const std::string& directory);

// Puts the directory `from` in the place of `to`, atomically, in the same parent, which is synced. What was at `to`
// is removed. Throws EngineError (checkpoint I/O); `from` then still exists.
void ReplaceDirectory(const std::string& from, const std::string& to);

// A new directory beside its final place, removed again unless committed: what a crash or a full disk leaves behind is
// never taken for a result. Names begin with kPrefix; RemoveStale removes those of earlier processes.
class TemporaryDirectory {
 public:
  static constexpr std::string_view kPrefix = ".tmp-";

  TemporaryDirectory(const std::string& parent, const std::string& final_name);
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory();

  const std::string& path() const { return path_; }

  // Syncs it and renames it to parent/final_name, in the place of what was there.
  void Commit();

  static void RemoveStale(const std::string& parent);

 private:
  std::string path_;
  std::string final_path_;
  bool committed_ = false;
};

}  // namespace ithaca::engine

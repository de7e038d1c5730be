#include "worker/engine/checkpoint/durable_file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <tuple>
#include <vector>

#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBlockBytes = int64_t{4} << 20;

[[noreturn]] void ThrowErrno(const std::string& what, int error) {
  throw EngineError(plan::ExitCode::kCheckpointIo, what + ": " + std::strerror(error));
}

EVP_MD_CTX* NewHash() {
  EVP_MD_CTX* hash = EVP_MD_CTX_new();
  if (hash == nullptr || EVP_DigestInit_ex(hash, EVP_sha256(), nullptr) != 1) {
    throw EngineError(plan::ExitCode::kInternal, "OpenSSL offers no SHA-256");
  }
  return hash;
}

std::string FinishHash(EVP_MD_CTX* hash) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned int length = 0;
  EVP_DigestFinal_ex(hash, digest.data(), &length);
  std::string hex;
  for (unsigned int i = 0; i < length; ++i) {
    char pair[3];
    std::snprintf(pair, sizeof(pair), "%02x", digest[i]);
    hex += pair;
  }
  return hex;
}

}  // namespace

DurableFile::DurableFile(std::string path) : path_(std::move(path)), hash_(NewHash()) {
  fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd_ < 0) {
    const int error = errno;
    EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(hash_));
    ThrowErrno("cannot create " + path_, error);
  }
}

DurableFile::~DurableFile() {
  if (fd_ >= 0) close(fd_);
  EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(hash_));
}

void DurableFile::Fail(const char* what) { ThrowErrno(std::string("cannot ") + what + " " + path_, errno); }

void DurableFile::Write(const void* data, int64_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = write(fd_, next, static_cast<size_t>(std::min(bytes, kBlockBytes)));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) Fail("write");
    EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(hash_), next, static_cast<size_t>(written));
    next += written;
    bytes -= written;
    bytes_ += written;
  }
}

FileDigest DurableFile::Commit() {
  if (fsync(fd_) != 0) Fail("flush");
  const int fd = fd_;
  fd_ = -1;
  if (close(fd) != 0) Fail("close");
  return {bytes_, FinishHash(static_cast<EVP_MD_CTX*>(hash_))};
}

FileDigest DigestFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) ThrowErrno("cannot open " + path, errno);
  EVP_MD_CTX* hash = NewHash();
  std::vector<char> block(static_cast<size_t>(kBlockBytes));
  FileDigest digest;
  ssize_t got = 0;
  while ((got = read(fd, block.data(), block.size())) != 0) {
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) break;
    EVP_DigestUpdate(hash, block.data(), static_cast<size_t>(got));
    digest.bytes += got;
  }
  const int error = errno;
  digest.sha256 = FinishHash(hash);
  EVP_MD_CTX_free(hash);
  close(fd);
  if (got < 0) ThrowErrno("cannot read " + path, error);
  return digest;
}

void SyncDirectory(const std::string& directory) {
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) ThrowErrno("cannot open directory " + directory, errno);
  // Some network file systems cannot sync a directory and say EINVAL; there renames are synchronous.
  const int error = fsync(fd) == 0 ? 0 : errno;
  close(fd);
  if (error != 0 && error != EINVAL) ThrowErrno("cannot flush directory " + directory, error);
}

void ReplaceDirectory(const std::string& from, const std::string& to) {
  std::string discard;
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) {
    discard = from;
  } else if (errno == ENOENT || errno == EINVAL || errno == ENOSYS) {
    // Nothing there, or a file system without exchange: then what is there steps aside first.
    if (fs::exists(to)) {
      discard = from + "-replaced";
      if (rename(to.c_str(), discard.c_str()) != 0) ThrowErrno("cannot replace " + to, errno);
    }
    if (rename(from.c_str(), to.c_str()) != 0) {
      const int rename_error = errno;
      if (!discard.empty()) std::ignore = rename(discard.c_str(), to.c_str());
      ThrowErrno("cannot rename " + from + " to " + to, rename_error);
    }
  } else {
    ThrowErrno("cannot rename " + from + " to " + to, errno);
  }
  SyncDirectory(fs::path(to).parent_path().string());
  std::error_code ignored;
  if (!discard.empty()) fs::remove_all(discard, ignored);
}

TemporaryDirectory::TemporaryDirectory(const std::string& parent, const std::string& final_name)
    : path_((fs::path(parent) / (std::string(kPrefix) + final_name + "-" + std::to_string(getpid()))).string()),
      final_path_((fs::path(parent) / final_name).string()) {
  std::error_code error;
  fs::remove_all(path_, error);
  if (!error) fs::create_directories(path_, error);
  if (error) ThrowErrno("cannot create directory " + path_, error.value());
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(path_, ignored);
}

void TemporaryDirectory::Commit() {
  SyncDirectory(path_);
  ReplaceDirectory(path_, final_path_);
  committed_ = true;
}

void TemporaryDirectory::RemoveStale(const std::string& parent) {
  std::error_code error;
  std::vector<fs::path> stale;
  for (const auto& entry : fs::directory_iterator(parent, error)) {
    if (entry.path().filename().string().starts_with(kPrefix)) stale.push_back(entry.path());
  }
  for (const fs::path& path : stale) {
    fs::remove_all(path, error);
    if (error) ThrowErrno("cannot remove " + path.string(), error.value());
  }
}

}  // namespace ithaca::engine

#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>

namespace ithaca::fakes {

// A directory of its own for a test, removed with all that is in it. Short, so that a unix socket in it has a valid
// path.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = "/tmp/ithaca-test-XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace ithaca::fakes

// A process that commits is killed, or its disk fills up: what was acknowledged is there, and nothing else is broken.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <set>
#include <string>

#include "server/store/sqlite_store.h"
#include "tests/server/core/service_fixture.h"

namespace ithaca {
namespace {

// store_committer as a child, its lines read one by one.
class Committer {
 public:
  Committer(const std::filesystem::path& database, const std::string& file_limit) {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    std::string program = STORE_COMMITTER;
    std::string path = database.string();
    std::string limit = file_limit;
    char* argv[] = {program.data(), path.data(), limit.empty() ? nullptr : limit.data(), nullptr};
    EXPECT_EQ(::posix_spawn(&pid_, program.c_str(), &actions, nullptr, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    lines_ = ::fdopen(ends[0], "r");
  }
  ~Committer() {
    std::fclose(lines_);
    if (!waited_) Kill();
  }

  // The next line without its end; empty at the end of the output.
  std::string Line() {
    char buffer[512];
    if (std::fgets(buffer, sizeof buffer, lines_) == nullptr) return "";
    std::string line = buffer;
    return line.substr(0, line.find('\n'));
  }

  void Kill() {
    ::kill(pid_, SIGKILL);
    Wait();
  }
  void Wait() {
    int status = 0;
    EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
    waited_ = true;
  }

 private:
  pid_t pid_ = 0;
  FILE* lines_ = nullptr;
  bool waited_ = false;
};

std::set<std::string> StoredIds(const std::filesystem::path& database) {
  const auto store = SqliteStore::Open(database);
  EXPECT_TRUE(store.ok()) << store.status();
  if (!store.ok()) return {};
  const auto contents = (*store)->Load();
  EXPECT_TRUE(contents.ok()) << contents.status();
  std::set<std::string> ids;
  std::set<std::string> keyed;
  for (const JobRecord& job : contents->jobs) ids.insert(job.job.id());
  for (const RequestKey& key : contents->request_keys) keyed.insert(key.job_id);
  EXPECT_EQ(ids, keyed) << "a batch is stored whole or not at all";
  return ids;
}

TEST(StoreCrash, KillInTheMiddleOfCommitsLosesNothingAcknowledged) {
  TemporaryDirectory directory;
  for (int round = 0; round < 5; ++round) {
    const auto database = directory.path() / ("state-" + std::to_string(round) + ".db");
    std::set<std::string> acknowledged;
    Committer committer(database, "");
    for (int i = 0; i < 20 + 13 * round; ++i) acknowledged.insert(committer.Line());
    committer.Kill();
    for (std::string line = committer.Line(); !line.empty(); line = committer.Line()) acknowledged.insert(line);
    const std::set<std::string> stored = StoredIds(database);
    EXPECT_GE(acknowledged.size(), 20u);
    for (const std::string& id : acknowledged) EXPECT_TRUE(stored.contains(id)) << id;
    // At most one batch of each thread was in flight.
    EXPECT_LE(stored.size(), acknowledged.size() + 4);
  }
}

TEST(StoreCrash, AFullDiskIsAnErrorAndWhatWasAcceptedStays) {
  TemporaryDirectory directory;
  const auto database = directory.path() / "state.db";
  Committer committer(database, std::to_string(400 << 10));
  std::set<std::string> acknowledged;
  std::string last;
  for (std::string line = committer.Line(); !line.empty(); line = committer.Line()) {
    if (line.starts_with("error")) {
      last = line;
    } else {
      acknowledged.insert(line);
    }
  }
  committer.Wait();
  const int code = static_cast<int>(absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(last.starts_with("error " + std::to_string(code) + " ")) << last;
  EXPECT_GT(acknowledged.size(), 5u);
  const std::set<std::string> stored = StoredIds(database);
  for (const std::string& id : acknowledged) EXPECT_TRUE(stored.contains(id)) << id;
}

}  // namespace
}  // namespace ithaca

#include "server/launcher/local/local_launcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "server/launcher/local/local_node.h"
#include "tests/fakes/temporary_directory.h"
#include "tests/fakes/wait_for.h"

namespace ithaca {
namespace {

using fakes::WaitFor;
using ::testing::HasSubstr;
using Life = WorkerStatus::Life;

// Runs a shell script in a worker's place.
class LocalLauncherTest : public ::testing::Test {
 protected:
  LocalLauncherTest() : launcher_(MakeOptions(), [this] { ++ends_; }) {
    request_.job_id = "job";
    request_.attempt = 3;
    request_.token = "secret";
    request_.directory = directory_.path();
  }
  ~LocalLauncherTest() override {
    for (const WorkerProcess& worker : started_) EXPECT_TRUE(launcher_.Kill(worker).ok());
  }

  LocalLauncher::Options MakeOptions() const {
    return {directory_.path() + "/worker", "/path/of/engine", "unix:/path/of/socket", "here", ""};
  }

  WorkerProcess Start(const std::string& script) {
    std::ofstream(directory_.path() + "/worker") << "#!/bin/sh\n" << script << "\n";
    std::filesystem::permissions(directory_.path() + "/worker", std::filesystem::perms::owner_all);
    const absl::StatusOr<WorkerProcess> worker = launcher_.Start(request_);
    EXPECT_TRUE(worker.ok()) << worker.status();
    started_.push_back(*worker);
    return *worker;
  }

  std::string Log() {
    std::stringstream text;
    text << std::ifstream(directory_.path() + "/worker-0/worker.log").rdbuf();
    return text.str();
  }

  fakes::TemporaryDirectory directory_;
  std::atomic<int> ends_ = 0;
  LocalLauncher launcher_;
  LaunchRequest request_;
  std::vector<WorkerProcess> started_;
};

TEST_F(LocalLauncherTest, StartsAWorkerWithTheTokenInAFileThatOnlyTheOwnerReads) {
  Start("echo \"$@\"; cat $8");
  ASSERT_TRUE(WaitFor([&] { return Log().find("secret") != std::string::npos; }));
  EXPECT_THAT(Log(), HasSubstr("--coordinator unix:/path/of/socket --job job --attempt 3 --token-file "));
  EXPECT_THAT(Log(), HasSubstr("--engine /path/of/engine --work-dir " + directory_.path() + "/worker-0 --host here\n"));
  struct stat status;
  ASSERT_EQ(::stat((directory_.path() + "/worker-0.token").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(LocalLauncherTest, SaysHowAWorkerEndedAndCallsBack) {
  const WorkerProcess worker = Start("exit 7");
  ASSERT_TRUE(WaitFor([&] { return launcher_.Check(worker).life == Life::kGone; }));
  EXPECT_EQ(launcher_.Check(worker).detail, "exited with code 7");
  EXPECT_NE(::kill(static_cast<pid_t>(worker.pid), 0), 0) << "no zombie is left";

  const WorkerProcess killed = Start("exec sleep 600");
  EXPECT_EQ(launcher_.Check(killed).life, Life::kRunning);
  const int before = ends_;
  EXPECT_TRUE(launcher_.Kill(killed).ok());
  ASSERT_TRUE(WaitFor([&] { return ends_ > before; }));
  ASSERT_TRUE(WaitFor([&] { return launcher_.Check(killed).life == Life::kGone; }));
  EXPECT_THAT(launcher_.Check(killed).detail, HasSubstr("killed by signal 9"));
}

TEST_F(LocalLauncherTest, AWorkerIsNotGoneWhileAProcessItStartedIsThere) {
  const WorkerProcess worker = Start("sleep 600 & exit 0");
  ASSERT_TRUE(WaitFor([&] { return ::kill(static_cast<pid_t>(worker.pid), 0) != 0; })) << "the worker itself has ended";
  EXPECT_EQ(launcher_.Check(worker).life, Life::kRunning);
  EXPECT_TRUE(launcher_.Kill(worker).ok());
  EXPECT_TRUE(WaitFor([&] { return launcher_.Check(worker).life == Life::kGone; }));
}

TEST_F(LocalLauncherTest, KillMissesNoProcessThatIsJustBeingStarted) {
  for (int i = 0; i < 20; ++i) {
    const WorkerProcess worker = Start("while :; do sleep 600 & done");
    EXPECT_TRUE(launcher_.Kill(worker).ok());
    ASSERT_TRUE(WaitFor([&] { return launcher_.Check(worker).life == Life::kGone; }));
  }
}

TEST_F(LocalLauncherTest, TerminateAsksAndAnotherProcessWithThatNumberIsLeftAlone) {
  const WorkerProcess worker = Start("trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.01; done");
  ASSERT_TRUE(WaitFor([&] { return Log().find("ready") != std::string::npos; }));
  WorkerProcess earlier = worker;
  earlier.pid_start_time -= 1;
  EXPECT_EQ(launcher_.Check(earlier).life, Life::kGone) << "the number is another's by now";
  EXPECT_TRUE(launcher_.Kill(earlier).ok());
  EXPECT_EQ(launcher_.Check(worker).life, Life::kRunning);
  EXPECT_TRUE(launcher_.Terminate(worker).ok());
  ASSERT_TRUE(WaitFor([&] { return launcher_.Check(worker).life == Life::kGone; }));
  EXPECT_EQ(launcher_.Check(worker).detail, "exited with code 3");
}

TEST_F(LocalLauncherTest, FindsAWorkerWhoseIdentityWasNeverStored) {
  absl::StatusOr<std::optional<WorkerProcess>> none = launcher_.Find(request_);
  ASSERT_TRUE(none.ok());
  EXPECT_FALSE(none->has_value());
  // The shell stays beside its child, and with it the command line, which is there once the shell speaks.
  const WorkerProcess worker = Start("echo up; sleep 600; exit 0");
  ASSERT_TRUE(WaitFor([&] { return Log() == "up\n"; }));
  LocalLauncher later(MakeOptions(), [] {});
  absl::StatusOr<std::optional<WorkerProcess>> found = later.Find(request_);
  ASSERT_TRUE(found.ok() && found->has_value());
  EXPECT_EQ(**found, worker);
  EXPECT_EQ(later.Check(worker).life, Life::kRunning);
}

TEST_F(LocalLauncherTest, AProgramThatIsNotThereIsAnErrorAndLeavesNothing) {
  const absl::StatusOr<WorkerProcess> worker = launcher_.Start(request_);
  EXPECT_TRUE(absl::IsUnavailable(worker.status()));
  EXPECT_THAT(std::string(worker.status().message()), HasSubstr("No such file or directory"));
}

TEST(LocalNodeTest, SharesMemoryAndCoresAmongCpuSlots) {
  const Node node = DescribeLocalNode("here", 3);
  const auto cpu = std::find_if(node.pools.begin(), node.pools.end(),
                                [](const DevicePool& pool) { return pool.device == v1::DEVICE_KIND_CPU; });
  ASSERT_NE(cpu, node.pools.end());
  EXPECT_EQ(cpu->slots, 3);
  EXPECT_GT(cpu->bytes_per_slot, 0);
  EXPECT_LE(cpu->bytes_per_slot, AvailableMemoryBytes());
  EXPECT_GE(cpu->threads_per_slot, 1);
}

}  // namespace
}  // namespace ithaca

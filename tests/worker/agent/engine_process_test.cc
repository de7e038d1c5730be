#include "worker/agent/engine_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>

#include <fstream>
#include <sstream>

#include "tests/fakes/temporary_directory.h"

namespace ithaca {
namespace {

using ::testing::HasSubstr;

class EngineProcessTest : public ::testing::Test {
 protected:
  absl::StatusOr<EngineProcess> Shell(const std::string& script) {
    EngineCommand command;
    command.program = "/bin/sh";
    command.arguments = {"-c", script, "sh"};
    command.environment = {{"RANK", "5"}, {"PATH", "/usr/bin:/bin"}};
    command.log_path = LogPath();
    return EngineProcess::Start(command);
  }

  std::string LogPath() const { return directory_.path() + "/log"; }
  std::string Log() const {
    std::stringstream text;
    text << std::ifstream(LogPath()).rdbuf();
    return text.str();
  }

  static ProcessEnd AwaitEnd(EngineProcess& process) {
    pollfd fd{process.pid_fd(), POLLIN, 0};
    EXPECT_EQ(::poll(&fd, 1, 60000), 1);
    return process.Poll().value_or(ProcessEnd{-1, -1, false});
  }

  fakes::TemporaryDirectory directory_;
};

TEST_F(EngineProcessTest, GivesEventsLogAndExitCode) {
  absl::StatusOr<EngineProcess> process = Shell("echo out; echo err >&2; echo event >&3; exit 12");
  ASSERT_TRUE(process.ok()) << process.status();
  EXPECT_EQ(AwaitEnd(*process).exit_code, 12);
  std::string events;
  process->ReadEvents(&events);
  EXPECT_EQ(events, "event\n");
  EXPECT_EQ(Log(), "out\nerr\n");
}

TEST_F(EngineProcessTest, TellsASignalFromAnExitCode) {
  absl::StatusOr<EngineProcess> process = Shell("kill -SEGV $$");
  ASSERT_TRUE(process.ok());
  const ProcessEnd end = AwaitEnd(*process);
  EXPECT_EQ(end.signal, SIGSEGV);
}

TEST_F(EngineProcessTest, PassesCommandsThePipesAndTheEnvironmentAndNothingElse) {
  absl::StatusOr<EngineProcess> process = Shell("read line <&4; echo $line $RANK $*; exec ls /proc/self/fd >&3");
  ASSERT_TRUE(process.ok());
  process->SendCommand("{\"command\":\"stop\"}");
  EXPECT_EQ(AwaitEnd(*process).exit_code, 0);
  EXPECT_THAT(Log(), HasSubstr("{\"command\":\"stop\"} 5 --events-fd 3 --commands-fd 4\n"));
  std::string descriptors;
  process->ReadEvents(&descriptors);
  EXPECT_EQ(descriptors, "0\n1\n2\n3\n4\n5\n") << "5 is the directory that ls reads";
}

TEST_F(EngineProcessTest, SignalsTheWholeProcessGroup) {
  absl::StatusOr<EngineProcess> process = Shell("sleep 600 & echo ready >&3; wait");
  ASSERT_TRUE(process.ok());
  pollfd fd{process->events_fd(), POLLIN, 0};
  ASSERT_EQ(::poll(&fd, 1, 60000), 1);
  process->Signal(SIGKILL);
  EXPECT_EQ(AwaitEnd(*process).signal, SIGKILL);
  // The child of the shell held the pipe too: it closes only when that is dead as well.
  std::string events;
  while (process->events_fd() >= 0) {
    pollfd end{process->events_fd(), POLLIN, 0};
    ASSERT_EQ(::poll(&end, 1, 60000), 1);
    process->ReadEvents(&events);
  }
}

TEST_F(EngineProcessTest, SaysWhyAProgramCannotBeStarted) {
  EngineCommand command;
  command.program = directory_.path() + "/no-such-engine";
  command.log_path = LogPath();
  const absl::StatusOr<EngineProcess> process = EngineProcess::Start(command);
  ASSERT_FALSE(process.ok());
  EXPECT_THAT(std::string(process.status().message()), HasSubstr("no-such-engine: No such file or directory"));
}

TEST_F(EngineProcessTest, KillsWhatStillRunsWhenItIsDestroyed) {
  pid_t pid = 0;
  {
    absl::StatusOr<EngineProcess> process = Shell("sleep 600");
    ASSERT_TRUE(process.ok());
    pid = process->pid();
  }
  EXPECT_EQ(::kill(pid, 0), -1);
}

TEST(TailOfFileTest, StartsAtALine) {
  const fakes::TemporaryDirectory directory;
  const std::string path = directory.path() + "/log";
  std::ofstream(path) << "first line\nsecond line\nthird\n";
  EXPECT_EQ(TailOfFile(path, 12), "third\n");
  EXPECT_EQ(TailOfFile(path, 1000), "first line\nsecond line\nthird\n");
  EXPECT_EQ(TailOfFile(directory.path() + "/none", 10), "");
}

}  // namespace
}  // namespace ithaca

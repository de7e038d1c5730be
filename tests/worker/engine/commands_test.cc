#include "worker/engine/commands.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <thread>

namespace ithaca::engine {
namespace {

void WaitFor(const std::atomic<bool>& flag) {
  while (!flag) std::this_thread::yield();
}

TEST(CommandsTest, LinesSetRequestsAndWhatIsNoCommandIsPassedOver) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  Requests requests;
  {
    const CommandReader reader(ends[0], requests);
    const std::string lines = "garbage\n{\"command\": 7}\n[]\n{\"command\": \"fly\"}\n{\"command\": \"check";
    ASSERT_EQ(write(ends[1], lines.data(), lines.size()), static_cast<ssize_t>(lines.size()));
    ASSERT_EQ(write(ends[1], "point\"}\n", 8), 8);
    WaitFor(requests.checkpoint);
    EXPECT_FALSE(requests.stop);
    ASSERT_EQ(write(ends[1], "{\"command\": \"stop\"}\n", 20), 20);
    WaitFor(requests.stop);
  }
  close(ends[0]);
  close(ends[1]);
}

TEST(CommandsTest, TerminationIsARequestToStop) {
  static Requests requests;
  InstallSignalHandlers(requests);
  std::raise(SIGTERM);
  EXPECT_TRUE(requests.stop);
  EXPECT_FALSE(requests.checkpoint);
}

}  // namespace
}  // namespace ithaca::engine

// A rank is killed while the others wait for it. Ranks are processes, forked before this one has any thread.

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "worker/engine/comm/mesh.h"
#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

using plan::ExitCode;

struct Pipe {
  int read_end, write_end;
  Pipe() {
    int ends[2];
    if (pipe(ends) != 0) abort();
    read_end = ends[0];
    write_end = ends[1];
  }
  void Write(int value) const {
    if (write(write_end, &value, sizeof(value)) != sizeof(value)) _exit(99);
  }
  int Read() const {
    int value = -1;
    EXPECT_EQ(read(read_end, &value, sizeof(value)), static_cast<ssize_t>(sizeof(value)));
    return value;
  }
};

// The life of one rank: the last one stops taking part after the first collective. Returns the exit status.
int RunRank(int rank, int world_size, int port, const Pipe& listening, const Pipe& waiting, int64_t elements) {
  signal(SIGPIPE, SIG_IGN);  // as the engine does
  RendezvousOptions options{.rank = rank, .world_size = world_size, .local_rank = rank};
  options.master_port = port;
  options.on_listening = [&](const std::string&, int on) { listening.Write(on); };
  try {
    const auto mesh = Mesh::Create(options, world_size, plan::DeviceKind::kCpu);
    at::Tensor tensor = at::ones({elements});
    mesh->world().AllReduceSum(tensor);
    waiting.Write(rank);
    if (rank == world_size - 1) {
      while (true) pause();
    }
    mesh->world().AllReduceSum(tensor);
    return 0;
  } catch (const EngineError& error) {
    return static_cast<int>(error.code());
  }
}

void KillLastRank(int world_size, int64_t elements) {
  const Pipe listening, waiting;
  std::vector<pid_t> children;
  const auto start = [&](int rank, int port) {
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) _exit(RunRank(rank, world_size, port, listening, waiting, elements));
    children.push_back(pid);
  };
  start(0, 0);
  const int port = listening.Read();
  for (int rank = 1; rank < world_size; ++rank) start(rank, port);
  for (int rank = 0; rank < world_size; ++rank) waiting.Read();
  kill(children.back(), SIGKILL);
  for (int rank = 0; rank < world_size; ++rank) {
    int status = 0;
    ASSERT_EQ(waitpid(children[rank], &status, 0), children[rank]);
    if (rank == world_size - 1) {
      EXPECT_TRUE(WIFSIGNALED(status));
    } else {
      ASSERT_TRUE(WIFEXITED(status)) << "rank " << rank << " was ended by signal " << WTERMSIG(status);
      EXPECT_EQ(WEXITSTATUS(status), static_cast<int>(ExitCode::kPeerLost)) << "rank " << rank;
    }
  }
}

TEST(LostPeerTest, ASmallAllReduceEndsWithPeerLostOnEverySurvivor) { KillLastRank(3, 8); }
TEST(LostPeerTest, ALargeAllReduceEndsWithPeerLostOnEverySurvivor) { KillLastRank(4, 8 << 20); }
TEST(LostPeerTest, APairEndsWithPeerLostOnTheSurvivor) { KillLastRank(2, 1000); }

// Rank 0 stops for ever inside what the others wait for.
int WaitForRankZero(int rank, int port, const Pipe& listening, const Pipe& waiting) {
  signal(SIGPIPE, SIG_IGN);
  RendezvousOptions options{.rank = rank, .world_size = 2, .local_rank = rank};
  options.master_port = port;
  options.on_listening = [&](const std::string&, int on) { listening.Write(on); };
  try {
    const auto mesh = Mesh::Create(options, 2, plan::DeviceKind::kCpu);
    waiting.Write(rank);
    mesh->OnRankZero([] {
      while (true) pause();
    });
    return 0;
  } catch (const EngineError& error) {
    return static_cast<int>(error.code());
  }
}

TEST(LostPeerTest, RankZeroKilledAtWorkIsALostPeerToWhoeverWaitsForIt) {
  const Pipe listening, waiting;
  pid_t children[2];
  int port = 0;
  for (int rank = 0; rank < 2; ++rank) {
    children[rank] = fork();
    ASSERT_GE(children[rank], 0);
    if (children[rank] == 0) _exit(WaitForRankZero(rank, port, listening, waiting));
    if (rank == 0) port = listening.Read();
  }
  for (int rank = 0; rank < 2; ++rank) waiting.Read();
  kill(children[0], SIGKILL);
  int status = 0;
  waitpid(children[0], &status, 0);
  ASSERT_EQ(waitpid(children[1], &status, 0), children[1]);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), static_cast<int>(ExitCode::kPeerLost));
}

}  // namespace
}  // namespace ithaca::engine

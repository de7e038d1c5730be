#include "worker/engine/comm/mesh.h"

#include <ATen/ATen.h>
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <future>
#include <thread>

#include "worker/engine/errors.h"

namespace ithaca::engine {
namespace {

using plan::DeviceKind;
using plan::ExitCode;
using ::testing::HasSubstr;

// Sets environment variables and takes them away again.
class Environment {
 public:
  explicit Environment(std::vector<std::pair<const char*, const char*>> values) {
    for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}) unsetenv(name);
    for (const auto& [name, value] : values) setenv(name, value, 1);
  }
  ~Environment() {
    for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}) unsetenv(name);
  }
};

// Runs Mesh::Create and then `body` as every rank, each a thread; rank 0 listens on any free port.
void RunMesh(
    int world_size, const std::function<int(int)>& sequence_ranks, int64_t timeout_seconds,
    const std::function<void(int, Mesh&)>& body, std::vector<std::string>* failures,
    const std::function<std::string(int)>& agreement = [](int) { return ""; }) {
  signal(SIGPIPE, SIG_IGN);  // as the engine does
  std::promise<int> listening;
  const std::shared_future<int> port = listening.get_future().share();
  failures->assign(world_size, "");
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world_size; ++rank) {
    threads.emplace_back([&, rank] {
      RendezvousOptions options{.rank = rank, .world_size = world_size, .local_rank = rank};
      options.timeout_seconds = timeout_seconds;
      options.agreement = agreement(rank);
      if (rank == 0) {
        options.on_listening = [&](const std::string&, int on) { listening.set_value(on); };
      } else {
        options.master_port = port.get();
      }
      try {
        const auto mesh = Mesh::Create(options, sequence_ranks(rank), DeviceKind::kCpu);
        body(rank, *mesh);
        mesh->world().Barrier();
      } catch (const EngineError& error) {
        (*failures)[rank] = std::to_string(static_cast<int>(error.code())) + " " + error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(MeshTest, GroupsHoldTheRanksOfTheGrid) {
  std::vector<std::string> failures;
  RunMesh(
      4, [](int) { return 2; }, 120,
      [](int rank, Mesh& mesh) {
        const auto members = [&](Communicator& group) {
          at::Tensor bits = at::full({1}, 1 << rank, at::kLong);
          group.AllReduceSum(bits);
          return bits.item<int64_t>();
        };
        EXPECT_EQ(members(mesh.world()), 0b1111);
        EXPECT_EQ(members(mesh.sequence()), rank < 2 ? 0b0011 : 0b1100);
        EXPECT_EQ(members(mesh.replicas()), rank % 2 == 0 ? 0b0101 : 0b1010);
        EXPECT_EQ(mesh.world().rank(), rank);
        EXPECT_EQ(mesh.sequence().rank(), rank % 2);
        EXPECT_EQ(mesh.replicas().rank(), rank / 2);
        EXPECT_EQ(mesh.replicas().size(), 2);
      },
      &failures);
  for (const std::string& failure : failures) EXPECT_EQ(failure, "");
}

TEST(MeshTest, AWorldOfOneNeedsNoPeers) {
  const auto mesh = Mesh::Create(RendezvousOptions(), 1, DeviceKind::kCpu);
  at::Tensor tensor = at::ones({3});
  mesh->world().AllReduceSum(tensor);
  EXPECT_EQ(mesh->sequence().size(), 1);
  EXPECT_EQ(mesh->replicas().size(), 1);
  EXPECT_TRUE(at::equal(tensor, at::ones({3})));
}

TEST(MeshTest, RanksToldDifferentGridsSaySo) {
  std::vector<std::string> failures;
  RunMesh(
      2, [](int rank) { return rank + 1; }, 2, [](int, Mesh&) {}, &failures);
  EXPECT_THAT(failures[1], HasSubstr("10 rank 1 was told 'WORLD_SIZE 2, 2 ranks a sequence, cpu', rank 0"));
  EXPECT_THAT(failures[0], HasSubstr("31 rank 0 could not form group world"));
}

TEST(MeshTest, RanksToldDifferentSettingsSaySo) {
  std::vector<std::string> failures;
  RunMesh(
      2, [](int) { return 2; }, 2, [](int, Mesh&) {}, &failures,
      [](int rank) { return rank == 0 ? "mlp_tile 0" : "mlp_tile 64"; });
  EXPECT_THAT(failures[1],
              HasSubstr("10 rank 1 was told 'WORLD_SIZE 2, 2 ranks a sequence, cpu, mlp_tile 64', rank 0"));
}

TEST(MeshTest, WorkOfRankZeroMayTakeLongerThanACollective) {
  std::vector<std::string> failures;
  std::atomic<bool> done = false;
  RunMesh(
      3, [](int) { return 3; }, 1,
      [&](int, Mesh& mesh) {
        for (int round = 0; round < 2; ++round) {
          mesh.OnRankZero([&] {
            std::promise<void> never;
            never.get_future().wait_for(std::chrono::milliseconds(2500));
            done = true;
          });
          EXPECT_TRUE(done.load());
        }
      },
      &failures);
  for (const std::string& failure : failures) EXPECT_EQ(failure, "");
}

TEST(MeshTest, FailedWorkOfRankZeroIsALostPeerToTheOthers) {
  std::vector<std::string> failures;
  RunMesh(
      2, [](int) { return 2; }, 120,
      [](int rank, Mesh& mesh) {
        try {
          mesh.OnRankZero([] { throw EngineError(ExitCode::kCheckpointIo, "the disk is full"); });
        } catch (const EngineError& error) {
          if (rank == 0) mesh.Abort(error.what());
          throw;
        }
      },
      &failures);
  EXPECT_EQ(failures[0], "40 the disk is full");
  EXPECT_EQ(failures[1], "31 rank 0 failed while the other ranks waited for it");
}

TEST(MeshTest, ARankThatAbortsEndsTheOthersWhileItLives) {
  std::vector<std::string> failures;
  std::promise<void> ended;
  const std::shared_future<void> rank_zero_ended = ended.get_future().share();
  RunMesh(
      2, [](int) { return 2; }, 120,
      [&](int rank, Mesh& mesh) {
        if (rank == 1) {
          mesh.sequence().Barrier();  // rank 0 is past Mesh::Create
          mesh.Abort("no memory left");
          rank_zero_ended.wait();
          return;  // to the barrier
        }
        try {
          mesh.sequence().Barrier();
          mesh.sequence().Barrier();
        } catch (const EngineError&) {
          ended.set_value();
          throw;
        }
        ended.set_value();
      },
      &failures);
  EXPECT_THAT(failures[0], HasSubstr("31 rank 0 of 2"));
  EXPECT_THAT(failures[1], HasSubstr("no memory left"));
}

TEST(MeshTest, SequenceRanksMustDivideTheWorld) {
  RendezvousOptions options{.rank = 0, .world_size = 4};
  EXPECT_THROW(Mesh::Create(options, 3, DeviceKind::kCpu), EngineError);
}

TEST(MeshTest, APortInUseIsNamed) {
  const int taken = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  ASSERT_EQ(bind(taken, reinterpret_cast<sockaddr*>(&address), length), 0);
  ASSERT_EQ(listen(taken, 1), 0);
  getsockname(taken, reinterpret_cast<sockaddr*>(&address), &length);
  RendezvousOptions options{.rank = 0, .world_size = 2};
  options.master_port = ntohs(address.sin_port);
  try {
    Mesh::Create(options, 2, DeviceKind::kCpu);
    ADD_FAILURE() << "two listeners on one port";
  } catch (const EngineError& error) {
    EXPECT_EQ(error.code(), ExitCode::kInvalidConfig);
    EXPECT_THAT(error.what(),
                HasSubstr("127.0.0.1:" + std::to_string(options.master_port) + ": Address already in use"));
  }
  close(taken);
}

TEST(RendezvousOptionsTest, ReadsTheEnvironment) {
  const Environment environment(
      {{"RANK", "2"}, {"WORLD_SIZE", "4"}, {"LOCAL_RANK", "1"}, {"MASTER_ADDR", "10.0.0.7"}, {"MASTER_PORT", "29500"}});
  const RendezvousOptions options = RendezvousOptions::FromEnvironment();
  EXPECT_EQ(options.rank, 2);
  EXPECT_EQ(options.world_size, 4);
  EXPECT_EQ(options.local_rank, 1);
  EXPECT_EQ(options.master_host, "10.0.0.7");
  EXPECT_EQ(options.master_port, 29500);
}

TEST(RendezvousOptionsTest, NoVariablesMeanAWorldOfOne) {
  const Environment environment({});
  const RendezvousOptions options = RendezvousOptions::FromEnvironment();
  EXPECT_EQ(options.rank, 0);
  EXPECT_EQ(options.world_size, 1);
}

TEST(RendezvousOptionsTest, RefusesValuesThatMakeNoSense) {
  const std::vector<std::vector<std::pair<const char*, const char*>>> wrong = {
      {{"WORLD_SIZE", "0"}},
      {{"WORLD_SIZE", "two"}},
      {{"WORLD_SIZE", "2"}, {"MASTER_PORT", "1"}},                 // RANK missing
      {{"WORLD_SIZE", "2"}, {"RANK", "2"}, {"MASTER_PORT", "1"}},  // out of the world
      {{"WORLD_SIZE", "2"}, {"RANK", "1"}},                        // MASTER_PORT missing
      {{"WORLD_SIZE", "2"}, {"RANK", "1"}, {"MASTER_PORT", "0"}},
      {{"WORLD_SIZE", "2"}, {"RANK", "1"}, {"MASTER_PORT", "65536"}},
  };
  for (const auto& values : wrong) {
    const Environment environment(values);
    EXPECT_THROW(RendezvousOptions::FromEnvironment(), EngineError) << values.back().first << values.back().second;
  }
}

}  // namespace
}  // namespace ithaca::engine

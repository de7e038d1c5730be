#pragma once

#include <gtest/gtest.h>
#include <signal.h>

#include <exception>
#include <functional>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <vector>

#include "worker/engine/comm/gloo.h"
#include "worker/engine/comm/solo.h"

namespace ithaca::engine {

// Runs `body` as every rank of a Gloo group over loopback, each a thread; a group of one is solo. An exception that
// leaves a body fails the test.
inline void RunRanks(int size, const std::function<void(Communicator&)>& body,
                     std::chrono::milliseconds timeout = std::chrono::seconds(120)) {
  signal(SIGPIPE, SIG_IGN);  // as the engine does
  const auto store = c10::make_intrusive<c10d::HashStore>();
  std::vector<std::thread> threads;
  std::vector<std::string> failures(size);
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        const std::unique_ptr<Communicator> group = size == 1 ? MakeSoloCommunicator()
                                                              : MakeGlooCommunicator({.name = "test",
                                                                                      .store = store,
                                                                                      .rank = rank,
                                                                                      .size = size,
                                                                                      .local_address = "127.0.0.1",
                                                                                      .timeout = timeout});
        body(*group);
        group->Barrier();  // nobody closes its connections while another still uses them
      } catch (const std::exception& error) {
        failures[rank] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int rank = 0; rank < size; ++rank) EXPECT_EQ(failures[rank], "") << "rank " << rank;
}

}  // namespace ithaca::engine

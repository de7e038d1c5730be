#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace ithaca::fakes {

// A fake engine's ends of everything: events and commands pipes, SIGTERM, and sockets to the other ranks (a star around
// rank 0). One per process, one thread. A peer that closes its socket before it has finished ends this process at once
// with exit code 31.
class EngineIo {
 public:
  EngineIo(int events_fd, int commands_fd, int rank, int world_size);

  int rank() const { return rank_; }
  int world_size() const { return world_size_; }
  bool stop_requested() const { return stop_requested_; }
  // Whether a checkpoint was asked for since the last call.
  bool checkpoint_requested();
  void IgnoreStop() { ignore_stop_ = true; }

  // Writes one event with `fields` and the time and rank that every event has.
  void Emit(const std::string& event, nlohmann::json fields);
  // Writes bytes as they are. A closed pipe means that the worker is gone, and ends the process.
  void Write(const std::string& bytes);

  // Rank 0 listens (on MASTER_PORT, or on a free port that it reports when that is 0) until all others are connected.
  void JoinPeers();

  // Tells the peers that this rank ends well, so that they do not take the closed socket for a loss.
  void LeavePeers();

  // Serves commands, signals and lost peers for `seconds`, and whatever is due now if that is 0.
  void Wait(double seconds);

 private:
  void Accept();
  void Connect();
  void ReadCommands();

  const int events_fd_, commands_fd_, rank_, world_size_;
  int signal_fd_ = -1;
  std::vector<int> peers_;
  std::string commands_;
  bool stop_requested_ = false, checkpoint_requested_ = false, ignore_stop_ = false, commands_open_ = false;
};

}  // namespace ithaca::fakes

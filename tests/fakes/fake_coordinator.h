#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "ithaca/v1/worker_service.grpc.pb.h"

namespace ithaca::fakes {

// The coordinator's end of one worker, on a unix socket: answers a hello with a given assignment and the offsets it
// has, stores records as the real one does, and can be taken away and brought back. All of it may be called from the
// test's thread while a worker talks to it.
class FakeCoordinator : public v1::WorkerService::Service {
 public:
  // What it has heard, in all its lives.
  struct Heard {
    int hellos = 0;
    v1::Hello last_hello;
    int listenings = 0;
    bool done = false;
    std::map<int, std::string> logs;                   // by rank
    std::map<int, std::vector<std::string>> events;    // by rank
    std::map<int, std::vector<v1::EngineExit>> exits;  // by rank, as often as they came
    std::map<int, v1::Heartbeat> heartbeats;
    int gaps = 0;  // records beyond what was stored: never allowed
  };

  FakeCoordinator(std::string socket, v1::Assignment assignment);
  ~FakeCoordinator() override;

  void Start();
  // Breaks all streams, at once and without a word.
  void Stop();
  // Every later hello is refused with this.
  void RefuseWith(grpc::Status status);
  // Records are heard but neither stored nor acknowledged.
  void SetForgetful(bool forgetful);
  void SendToAll(const v1::CoordinatorMessage& message);

  Heard heard();
  std::string target() const { return "unix:" + socket_; }

  grpc::Status Attach(grpc::ServerContext* context,
                      grpc::ServerReaderWriter<v1::CoordinatorMessage, v1::WorkerMessage>* stream) override;

 private:
  using Stream = grpc::ServerReaderWriter<v1::CoordinatorMessage, v1::WorkerMessage>;

  void Take(const v1::WorkerMessage& message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  v1::CoordinatorMessage MakeAck() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string socket_;
  const v1::Assignment assignment_;
  absl::Mutex mutex_;
  Heard heard_ ABSL_GUARDED_BY(mutex_);
  std::map<int, std::pair<int64_t, int64_t>> stored_ ABSL_GUARDED_BY(mutex_);  // event and log offsets
  std::vector<Stream*> streams_ ABSL_GUARDED_BY(mutex_);
  grpc::Status refusal_ ABSL_GUARDED_BY(mutex_);
  bool forgetful_ ABSL_GUARDED_BY(mutex_) = false;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace ithaca::fakes

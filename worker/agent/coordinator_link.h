#pragma once

#include <grpcpp/channel.h>

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "ithaca/v1/worker_service.grpc.pb.h"
#include "worker/agent/options.h"
#include "worker/agent/spool.h"

namespace ithaca {

// Keeps a worker attached to its coordinator: opens the stream, opens it again for ever when it breaks (within about a
// second on a machine that answers), and on every stream sends what the coordinator has not stored. Owned by the agent;
// two threads of its own. `on_message` and `on_refused` are called from them and must not block. The spool and whatever
// the callbacks use outlive the link.
class CoordinatorLink {
 public:
  struct Callbacks {
    // Every message but acks.
    std::function<void(v1::CoordinatorMessage)> on_message;
    // The coordinator refuses this worker for good: fenced, wrong token, unknown job. The link has ended.
    std::function<void(absl::Status)> on_refused;
  };

  CoordinatorLink(const AgentOptions& options, v1::Hello hello, Spool& spool, Callbacks callbacks);
  // Cancels the stream and joins the threads.
  ~CoordinatorLink();

  void Start();

  // What every later hello says too.
  void AddEngine(const v1::Engine& engine);
  // Sent at once, and again in every later hello.
  void SetListening(const v1::Listening& listening);
  // Sent once all records are, on this stream and every later one.
  void AddExit(const v1::EngineExit& exit);
  // No exit will follow: Done is sent after all of them.
  void SetDone();
  // Sends a batch now instead of at the next tick.
  void Wake();

  // Whether a stream is open and has been answered.
  bool attached();

 private:
  using Stream = grpc::ClientReaderWriter<v1::WorkerMessage, v1::CoordinatorMessage>;

  void Run();
  grpc::Status RunStream();
  void ReadAll(Stream* stream);
  // Sends what is due; false when the stream is broken.
  bool SendDue(Stream* stream);
  bool SendControl(Stream* stream, size_t exits_due, bool done_due);

  const AgentOptions options_;
  Spool& spool_;
  const Callbacks callbacks_;
  std::shared_ptr<grpc::Channel> channel_;

  absl::Mutex mutex_;
  v1::Hello hello_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::EngineExit> exits_ ABSL_GUARDED_BY(mutex_);
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  bool wake_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  // Of the present stream.
  bool acknowledged_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;
  bool detached_ ABSL_GUARDED_BY(mutex_) = false;
  bool listening_sent_ ABSL_GUARDED_BY(mutex_) = false;
  size_t exits_sent_ ABSL_GUARDED_BY(mutex_) = 0;
  bool done_sent_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::thread thread_;
};

}  // namespace ithaca

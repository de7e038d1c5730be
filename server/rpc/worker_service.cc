#include "server/rpc/worker_service.h"

#include <deque>
#include <thread>
#include <utility>

#include "proto/errors.h"
#include "proto/grpc_status.h"

namespace ithaca {
namespace {

using Stream = grpc::ServerReaderWriter<v1::CoordinatorMessage, v1::WorkerMessage>;

// The sending half of a stream: a queue, and a thread that writes from it, because Send must not block. The stream
// outlives Close; the object itself may live on in the core, and then does nothing.
class StreamLink : public WorkerLink {
 public:
  explicit StreamLink(Stream* stream) : thread_([this, stream] { WriteAll(stream); }) {}

  ~StreamLink() override { Close(); }

  void Send(const v1::CoordinatorMessage& message) override {
    absl::MutexLock lock(&mutex_);
    if (!closed_) queue_.push_back(message);
  }

  // Writes what is queued, then ends the thread.
  void Close() {
    {
      absl::MutexLock lock(&mutex_);
      closed_ = true;
    }
    if (thread_.joinable()) thread_.join();
  }

 private:
  void WriteAll(Stream* stream) {
    while (true) {
      std::deque<v1::CoordinatorMessage> batch;
      {
        absl::MutexLock lock(&mutex_);
        const auto due = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return closed_ || !queue_.empty(); };
        mutex_.Await(absl::Condition(&due));
        if (queue_.empty()) return;
        batch.swap(queue_);
      }
      for (const v1::CoordinatorMessage& message : batch) {
        if (!stream->Write(message)) return;
      }
    }
  }

  absl::Mutex mutex_;
  std::deque<v1::CoordinatorMessage> queue_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses what is above
};

}  // namespace

grpc::Status WorkerServiceImpl::Attach(grpc::ServerContext*, Stream* stream) {
  v1::WorkerMessage message;
  if (!stream->Read(&message)) return grpc::Status::CANCELLED;
  if (!message.has_hello()) {
    return ToGrpcStatus(MakeError(absl::StatusCode::kInvalidArgument, "HELLO_EXPECTED",
                                  "The first message of a worker's stream must be its hello."));
  }
  const auto link = std::make_shared<StreamLink>(stream);
  const absl::StatusOr<WorkerHub::Session> session = hub_.Attach(message.hello(), link);
  if (!session.ok()) {
    link->Close();
    return ToGrpcStatus(session.status());
  }
  absl::Status status;
  // After an error the stream ends, since records must not have gaps: a fenced worker hears it, any other comes again
  // and sends what is not acknowledged.
  while (status.ok() && stream->Read(&message)) status = hub_.Handle(*session, message);
  hub_.Detach(*session);
  link->Close();
  return ToGrpcStatus(status);
}

}  // namespace ithaca

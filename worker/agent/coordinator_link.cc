#include "worker/agent/coordinator_link.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/message_limits.h"

namespace ithaca {
namespace {

constexpr absl::Duration kBatchInterval = absl::Seconds(1);
constexpr absl::Duration kFirstBackoff = absl::Milliseconds(100);
constexpr absl::Duration kLastBackoff = absl::Seconds(5);

std::string ReadFile(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

std::shared_ptr<grpc::Channel> MakeChannel(const AgentOptions& options) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxReceivedBytes);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
  if (!options.tls_ca_path.empty()) {
    grpc::SslCredentialsOptions tls;
    tls.pem_root_certs = ReadFile(options.tls_ca_path);
    credentials = grpc::SslCredentials(tls);
  }
  return grpc::CreateCustomChannel(options.coordinator, credentials, arguments);
}

// What no later attempt can change.
bool IsFinal(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::FAILED_PRECONDITION ||
         status.error_code() == grpc::StatusCode::PERMISSION_DENIED ||
         status.error_code() == grpc::StatusCode::NOT_FOUND;
}

}  // namespace

CoordinatorLink::CoordinatorLink(const AgentOptions& options, v1::Hello hello, Spool& spool, Callbacks callbacks)
    : options_(options), spool_(spool), callbacks_(std::move(callbacks)), hello_(std::move(hello)) {}

CoordinatorLink::~CoordinatorLink() {
  {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
    if (context_ != nullptr) context_->TryCancel();
  }
  if (thread_.joinable()) thread_.join();
}

void CoordinatorLink::Start() {
  thread_ = std::thread([this] { Run(); });
}

void CoordinatorLink::AddEngine(const v1::Engine& engine) {
  absl::MutexLock lock(&mutex_);
  *hello_.add_engines() = engine;
}

void CoordinatorLink::SetListening(const v1::Listening& listening) {
  absl::MutexLock lock(&mutex_);
  *hello_.mutable_listening() = listening;
  listening_sent_ = false;
  wake_ = true;
}

void CoordinatorLink::AddExit(const v1::EngineExit& exit) {
  absl::MutexLock lock(&mutex_);
  exits_.push_back(exit);
  wake_ = true;
}

void CoordinatorLink::SetDone() {
  absl::MutexLock lock(&mutex_);
  done_ = true;
  wake_ = true;
}

void CoordinatorLink::Wake() {
  absl::MutexLock lock(&mutex_);
  wake_ = true;
}

bool CoordinatorLink::attached() {
  absl::MutexLock lock(&mutex_);
  return context_ != nullptr && acknowledged_ && !broken_;
}

void CoordinatorLink::Run() {
  channel_ = MakeChannel(options_);
  absl::BitGen random;
  absl::Duration backoff = kFirstBackoff;
  while (true) {
    const absl::Time begin = absl::Now();
    const grpc::Status status = RunStream();
    if (IsFinal(status)) {
      callbacks_.on_refused(absl::FailedPreconditionError(status.error_message()));
      return;
    }
    absl::MutexLock lock(&mutex_);
    if (absl::Now() - begin > kLastBackoff) backoff = kFirstBackoff;
    const absl::Duration pause = backoff * absl::Uniform(random, 0.75, 1.25);
    if (mutex_.AwaitWithTimeout(absl::Condition(&closing_), pause)) return;
    // A coordinator on this machine is back within moments; a second between attempts costs nothing.
    const absl::Duration cap = options_.coordinator.rfind("unix:", 0) == 0 ? absl::Seconds(1) : kLastBackoff;
    backoff = std::min(backoff * 2, cap);
  }
}

grpc::Status CoordinatorLink::RunStream() {
  grpc::ClientContext context;
  v1::WorkerMessage hello;
  {
    absl::MutexLock lock(&mutex_);
    if (closing_) return grpc::Status::CANCELLED;
    context_ = &context;
    acknowledged_ = broken_ = detached_ = done_sent_ = false;
    exits_sent_ = 0;
    listening_sent_ = hello_.has_listening();
    *hello.mutable_hello() = hello_;
  }
  spool_.Rewind();
  const std::unique_ptr<v1::WorkerService::Stub> stub = v1::WorkerService::NewStub(channel_);
  const std::unique_ptr<Stream> stream = stub->Attach(&context);
  std::thread reader;
  if (stream->Write(hello)) {
    reader = std::thread([this, &stream] { ReadAll(stream.get()); });
    while (SendDue(stream.get())) {
      absl::MutexLock lock(&mutex_);
      const auto due = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return broken_ || detached_ || closing_ || (acknowledged_ && wake_);
      };
      mutex_.AwaitWithTimeout(absl::Condition(&due), kBatchInterval);
    }
    stream->WritesDone();
    reader.join();
  }
  const grpc::Status status = stream->Finish();
  absl::MutexLock lock(&mutex_);
  context_ = nullptr;
  return status;
}

void CoordinatorLink::ReadAll(Stream* stream) {
  v1::CoordinatorMessage message;
  while (stream->Read(&message)) {
    if (message.has_ack()) {
      spool_.Acknowledge(message.ack());
      absl::MutexLock lock(&mutex_);
      if (!acknowledged_) wake_ = true;
      acknowledged_ = true;
    } else if (message.has_detach()) {
      absl::MutexLock lock(&mutex_);
      detached_ = true;
    } else {
      callbacks_.on_message(std::move(message));
      message.Clear();
    }
  }
  absl::MutexLock lock(&mutex_);
  broken_ = true;
}

bool CoordinatorLink::SendDue(Stream* stream) {
  size_t exits_due = 0;
  bool done_due = false;
  {
    absl::MutexLock lock(&mutex_);
    if (broken_ || detached_ || closing_) return false;
    if (!acknowledged_) return true;
    wake_ = false;
    // What is an exit now has its records in the spool already; they go first.
    exits_due = exits_.size();
    done_due = done_;
  }
  v1::WorkerMessage message;
  while (spool_.TakeBatch(message.mutable_batch())) {
    if (!stream->Write(message)) return false;
  }
  return SendControl(stream, exits_due, done_due);
}

bool CoordinatorLink::SendControl(Stream* stream, size_t exits_due, bool done_due) {
  std::vector<v1::WorkerMessage> messages;
  {
    absl::MutexLock lock(&mutex_);
    if (hello_.has_listening() && !listening_sent_) *messages.emplace_back().mutable_listening() = hello_.listening();
    listening_sent_ = true;
    for (; exits_sent_ < exits_due; ++exits_sent_) *messages.emplace_back().mutable_engine_exit() = exits_[exits_sent_];
    if (done_due && !done_sent_) {
      messages.emplace_back().mutable_done();
      done_sent_ = true;
    }
  }
  return std::all_of(messages.begin(), messages.end(), [&](const auto& message) { return stream->Write(message); });
}

}  // namespace ithaca

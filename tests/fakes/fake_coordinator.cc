#include "tests/fakes/fake_coordinator.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace ithaca::fakes {

FakeCoordinator::FakeCoordinator(std::string socket, v1::Assignment assignment)
    : socket_(std::move(socket)), assignment_(std::move(assignment)) {
  Start();
}

FakeCoordinator::~FakeCoordinator() { Stop(); }

void FakeCoordinator::Start() {
  grpc::ServerBuilder builder;
  builder.AddListeningPort(target(), grpc::InsecureServerCredentials());
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
}

void FakeCoordinator::Stop() {
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_.reset();
}

void FakeCoordinator::RefuseWith(grpc::Status status) {
  absl::MutexLock lock(&mutex_);
  refusal_ = std::move(status);
}

void FakeCoordinator::SetForgetful(bool forgetful) {
  absl::MutexLock lock(&mutex_);
  forgetful_ = forgetful;
}

void FakeCoordinator::SendToAll(const v1::CoordinatorMessage& message) {
  absl::MutexLock lock(&mutex_);
  for (Stream* stream : streams_) stream->Write(message);
}

FakeCoordinator::Heard FakeCoordinator::heard() {
  absl::MutexLock lock(&mutex_);
  return heard_;
}

v1::CoordinatorMessage FakeCoordinator::MakeAck() {
  v1::CoordinatorMessage message;
  message.mutable_ack();
  for (const auto& [rank, offsets] : stored_) {
    v1::RankOffsets* ack = message.mutable_ack()->add_ranks();
    ack->set_rank(rank);
    ack->set_event_offset(offsets.first);
    ack->set_log_offset(offsets.second);
  }
  return message;
}

void FakeCoordinator::Take(const v1::WorkerMessage& message) {
  for (const v1::EngineEvent& event : message.batch().events()) {
    int64_t& stored = stored_[event.rank()].first;
    if (event.offset() > stored) ++heard_.gaps;
    if (event.offset() != stored || forgetful_) continue;
    heard_.events[event.rank()].push_back(event.json());
    stored += static_cast<int64_t>(event.json().size()) + 1;
  }
  for (const v1::LogChunk& chunk : message.batch().logs()) {
    int64_t& stored = stored_[chunk.rank()].second;
    if (chunk.offset() > stored) ++heard_.gaps;
    if (chunk.offset() != stored || forgetful_) continue;
    heard_.logs[chunk.rank()] += chunk.data();
    stored += static_cast<int64_t>(chunk.data().size());
  }
  for (const v1::Heartbeat& heartbeat : message.batch().heartbeats()) heard_.heartbeats[heartbeat.rank()] = heartbeat;
  if (message.has_listening()) ++heard_.listenings;
  if (message.has_engine_exit()) heard_.exits[message.engine_exit().rank()].push_back(message.engine_exit());
  if (message.has_done()) heard_.done = true;
}

grpc::Status FakeCoordinator::Attach(grpc::ServerContext*, Stream* stream) {
  v1::WorkerMessage message;
  if (!stream->Read(&message) || !message.has_hello()) return grpc::Status::CANCELLED;
  {
    absl::MutexLock lock(&mutex_);
    ++heard_.hellos;
    heard_.last_hello = message.hello();
    if (!refusal_.ok()) return refusal_;
    v1::CoordinatorMessage answer;
    *answer.mutable_assignment() = assignment_;
    stream->Write(answer);
    stream->Write(MakeAck());
    streams_.push_back(stream);
  }
  while (stream->Read(&message)) {
    absl::MutexLock lock(&mutex_);
    Take(message);
    if (message.has_batch() && !forgetful_) stream->Write(MakeAck());
    if (message.has_done() && !forgetful_) {
      v1::CoordinatorMessage finish;
      finish.mutable_finish();
      stream->Write(finish);
    }
  }
  absl::MutexLock lock(&mutex_);
  std::erase(streams_, stream);
  return grpc::Status::OK;
}

}  // namespace ithaca::fakes

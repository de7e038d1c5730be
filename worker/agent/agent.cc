#include "worker/agent/agent.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "worker/agent/host_facts.h"
#include "worker/agent/run_files.h"

namespace ithaca {
namespace {

constexpr size_t kLastLogBytes = 4 << 10;
// What a shell answers when a program cannot be started.
constexpr int kCannotStart = 127;
// Exit code of an engine that stopped on request and saved its state.
constexpr int kStoppedCode = 75;

}  // namespace

Agent::Agent(AgentOptions options) : options_(std::move(options)), spool_(options_.work_directory) {}

Agent::~Agent() {
  link_.reset();
  for (const int fd : {signal_fd_, queue_fd_}) {
    if (fd >= 0) ::close(fd);
  }
}

absl::Status Agent::Run() {
  if (absl::Status status = SetUp(); !status.ok()) return status;
  link_->Start();
  while (true) {
    PollOnce();
    absl::MutexLock lock(&mutex_);
    if (!AllEnded()) continue;
    if (refused_.has_value()) return *refused_;
    if (finished_) return absl::OkStatus();
    if (absl::Now() >= leave_time_) {
      return absl::UnavailableError(
          absl::StrCat("no coordinator came for the result; it is in ", options_.work_directory, "/result.json"));
    }
  }
}

absl::Status Agent::SetUp() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  signal_fd_ = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  queue_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (signal_fd_ < 0 || queue_fd_ < 0) return absl::UnavailableError("cannot make a signalfd or an eventfd");

  const auto wake_main = [this] {
    const uint64_t one = 1;
    (void)!::write(queue_fd_, &one, sizeof one);
  };
  CoordinatorLink::Callbacks callbacks;
  callbacks.on_message = [this, wake_main](v1::CoordinatorMessage message) {
    absl::MutexLock lock(&mutex_);
    queue_.push_back(std::move(message));
    wake_main();
  };
  callbacks.on_refused = [this, wake_main](absl::Status why) {
    absl::MutexLock lock(&mutex_);
    refused_ = std::move(why);
    wake_main();
  };
  link_ = std::make_unique<CoordinatorLink>(options_, MakeHello(), spool_, std::move(callbacks));
  return absl::OkStatus();
}

v1::Hello Agent::MakeHello() const {
  v1::Hello hello = DescribeHost();
  hello.set_job_id(options_.job_id);
  hello.set_attempt(options_.attempt);
  hello.set_token(options_.token);
  hello.set_host(options_.host);
  return hello;
}

void Agent::PollOnce() {
  std::vector<pollfd> fds = {{signal_fd_, POLLIN, 0}, {queue_fd_, POLLIN, 0}};
  for (auto& [number, rank] : ranks_) {
    if (rank.process == nullptr || rank.ended) continue;
    fds.push_back({rank.process->events_fd(), POLLIN, 0});
    fds.push_back({rank.process->pid_fd(), POLLIN, 0});
  }
  ::poll(fds.data(), fds.size(), PollMilliseconds(std::min(kill_time_, leave_time_) - absl::Now()));
  TakeSignals();
  TakeMessages();
  for (auto& [number, rank] : ranks_) {
    if (rank.process == nullptr || rank.ended) continue;
    ReadEvents(number, rank);
    if (const std::optional<ProcessEnd> end = rank.process->Poll()) RankEnded(number, rank, *end);
  }
  EnforceDeadline();
  if (!done_ && AllEnded() && (stopping_ || (assignment_.has_value() && exits_.size() == ranks_.size()))) {
    done_ = true;
    leave_time_ = absl::Now() + options_.linger;
    if (absl::Status written = WriteResult(options_, exits_); !written.ok()) std::cerr << written << std::endl;
    link_->SetDone();
  }
}

int PollMilliseconds(absl::Duration left) {
  // Clamped before it is counted in milliseconds: without a deadline, what is left is infinite.
  return static_cast<int>(absl::ToInt64Milliseconds(std::clamp(left, absl::ZeroDuration(), absl::Minutes(1)))) + 1;
}

void Agent::TakeSignals() {
  signalfd_siginfo info;
  while (::read(signal_fd_, &info, sizeof info) == sizeof info) StopEngines(true, options_.stop_grace);
}

void Agent::TakeMessages() {
  uint64_t count;
  (void)!::read(queue_fd_, &count, sizeof count);
  std::deque<v1::CoordinatorMessage> messages;
  bool refused;
  {
    absl::MutexLock lock(&mutex_);
    messages.swap(queue_);
    refused = refused_.has_value();
  }
  for (const v1::CoordinatorMessage& message : messages) Handle(message);
  if (refused) KillEngines();
}

void Agent::Handle(const v1::CoordinatorMessage& message) {
  switch (message.message_case()) {
    case v1::CoordinatorMessage::kAssignment:
      if (!assignment_.has_value() && !stopping_) Assign(message.assignment());
      break;
    case v1::CoordinatorMessage::kRendezvous:
      StartAll(message.rendezvous().host(), message.rendezvous().port());
      break;
    case v1::CoordinatorMessage::kStop:
      StopEngines(message.stop().save(), absl::Seconds(message.stop().grace_seconds()));
      break;
    case v1::CoordinatorMessage::kCheckpoint:
      for (auto& [number, rank] : ranks_) {
        if (rank.process != nullptr) rank.process->SendCommand(R"({"command":"checkpoint"})");
      }
      break;
    case v1::CoordinatorMessage::kFinish:
      finished_ = true;
      KillEngines();
      break;
    default:  // Acks are the link's; after a detach it attaches again by itself.
      break;
  }
}

void Agent::Assign(const v1::Assignment& assignment) {
  assignment_ = assignment;
  absl::Status ready = WriteRunJson(options_, assignment.run_json());
  for (const v1::RankAssignment& rank : assignment.ranks()) {
    ranks_[rank.rank()].stream = EngineStream(rank.rank());
    if (ready.ok()) ready = spool_.AddRank(rank.rank());
  }
  if (!ready.ok()) {
    for (auto& [number, rank] : ranks_) StartFailed(number, rank, ready);
  } else if (ranks_.contains(0)) {
    StartRank(0, RendezvousAddress(options_), 0);
  }
}

void Agent::StartAll(const std::string& master_address, int master_port) {
  for (auto& [number, rank] : ranks_) {
    if (rank.process == nullptr && !rank.ended) StartRank(number, master_address, master_port);
  }
}

void Agent::StartRank(int number, const std::string& master_address, int master_port) {
  if (stopping_) return;
  Rank& rank = ranks_.at(number);
  const RankPlace place{number, spool_.LogPath(number), master_address, master_port};
  absl::StatusOr<EngineProcess> process = EngineProcess::Start(MakeEngineCommand(options_, *assignment_, place));
  if (!process.ok()) return StartFailed(number, rank, process.status());
  rank.process = std::make_unique<EngineProcess>(*std::move(process));
  v1::Engine engine;
  engine.set_rank(number);
  engine.set_pid(rank.process->pid());
  engine.set_pid_start_time(ProcessStartTicks(rank.process->pid()));
  link_->AddEngine(engine);
}

bool Agent::ReadEvents(int number, Rank& rank) {
  std::string bytes;
  rank.process->ReadEvents(&bytes);
  if (bytes.empty()) return false;
  EngineRecords records = rank.stream.Feed(bytes);
  for (const std::string& event : records.events) spool_.AppendEvent(number, event);
  if (records.broken_lines > 0) spool_.AppendEvent(number, BrokenLinesWarning(number, records.broken_lines));
  if (records.heartbeat.has_value()) spool_.SetHeartbeat(*std::move(records.heartbeat));
  if (records.failed_json.has_value()) rank.failed_json = *std::move(records.failed_json);
  if (records.listening.has_value() && number == 0) {
    link_->SetListening(*records.listening);
    StartAll(records.listening->host(), records.listening->port());
  }
  if (records.urgent) link_->Wake();
  return true;
}

void Agent::RankEnded(int number, Rank& rank, const ProcessEnd& end) {
  while (ReadEvents(number, rank)) {
  }
  v1::EngineExit exit;
  exit.set_pid(rank.process->pid());
  exit.set_exit_code(end.exit_code);
  exit.set_signal(end.signal);
  exit.set_last_log(ValidUtf8(TailOfFile(spool_.LogPath(number), kLastLogBytes)));
  exit.set_failed_json(rank.failed_json);
  ReportExit(number, rank, std::move(exit));
}

void Agent::StartFailed(int number, Rank& rank, const absl::Status& why) {
  v1::EngineExit exit;
  exit.set_exit_code(kCannotStart);
  exit.set_last_log(ValidUtf8(std::string(why.message())));
  exit.set_failed_json(StartFailure(number, std::string(why.message())));
  ReportExit(number, rank, std::move(exit));
}

void Agent::ReportExit(int number, Rank& rank, v1::EngineExit exit) {
  rank.ended = true;
  exit.set_rank(number);
  const absl::Time now = absl::Now();
  const int64_t nanos = absl::ToUnixNanos(now);
  exit.mutable_time()->set_seconds(nanos / 1000000000);
  exit.mutable_time()->set_nanos(static_cast<int32_t>(nanos % 1000000000));
  exits_.push_back(exit);
  link_->AddExit(exit);
  const bool well = exit.signal() == 0 && (exit.exit_code() == 0 || exit.exit_code() == kStoppedCode);
  if (well) return;
  // The others usually see the lost peer and end by themselves; one that hangs in a collective does not.
  kill_time_ = std::min(kill_time_, now + options_.peer_grace);
  // A rank that was never started will not be.
  stopping_ = true;
}

void Agent::StopEngines(bool save, absl::Duration grace) {
  stopping_ = true;
  if (!save) return KillEngines();
  kill_time_ = std::min(kill_time_, absl::Now() + grace);
  for (auto& [number, rank] : ranks_) {
    if (rank.process == nullptr || rank.ended) continue;
    rank.process->SendCommand(R"({"command":"stop"})");
    rank.process->Signal(SIGTERM);
  }
}

void Agent::KillEngines() {
  stopping_ = true;
  for (auto& [number, rank] : ranks_) {
    if (rank.process != nullptr && !rank.ended) rank.process->Signal(SIGKILL);
  }
}

void Agent::EnforceDeadline() {
  if (absl::Now() < kill_time_) return;
  kill_time_ = absl::InfiniteFuture();
  KillEngines();
}

bool Agent::AllEnded() const {
  return std::all_of(ranks_.begin(), ranks_.end(),
                     [](const auto& entry) { return entry.second.process == nullptr || entry.second.ended; });
}

}  // namespace ithaca

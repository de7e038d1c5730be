#include "server/core/outcome.h"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "google/protobuf/util/time_util.h"
#include "proto/shortened.h"
#include "worker/plan/exit_code.h"

namespace ithaca {
namespace {

using google::protobuf::util::TimeUtil;
using plan::ExitCode;

constexpr size_t kLogLines = 5;
constexpr size_t kMaxQuoteBytes = 4 << 10;  // a cause is in every list the job is in

struct ExitMeaning {
  ExitCode code;
  v1::JobReason reason;
  v1::Blame blame;
  const char* words;
};

constexpr ExitMeaning kExitMeanings[] = {
    {ExitCode::kInvalidConfig, v1::JOB_REASON_INVALID_CONFIG, v1::BLAME_USER, "the configuration was refused"},
    {ExitCode::kInvalidData, v1::JOB_REASON_INVALID_DATA, v1::BLAME_USER, "the documents were refused"},
    {ExitCode::kInvalidModel, v1::JOB_REASON_INVALID_MODEL, v1::BLAME_USER, "the model was refused"},
    {ExitCode::kGpuOutOfMemory, v1::JOB_REASON_GPU_OUT_OF_MEMORY, v1::BLAME_USER, "out of GPU memory"},
    {ExitCode::kHostOutOfMemory, v1::JOB_REASON_HOST_OUT_OF_MEMORY, v1::BLAME_USER, "out of host memory"},
    {ExitCode::kCollectiveFailed, v1::JOB_REASON_COLLECTIVE_FAILED, v1::BLAME_HARDWARE, "a collective failed"},
    {ExitCode::kPeerLost, v1::JOB_REASON_PEER_LOST, v1::BLAME_HARDWARE, "another rank was lost"},
    {ExitCode::kCheckpointIo, v1::JOB_REASON_CHECKPOINT_IO, v1::BLAME_SYSTEM,
     "a checkpoint could not be written or read"},
    {ExitCode::kLossNotFinite, v1::JOB_REASON_LOSS_NOT_FINITE, v1::BLAME_USER, "the loss is not finite"},
    {ExitCode::kInternal, v1::JOB_REASON_INTERNAL, v1::BLAME_SYSTEM, "internal error"},
    {ExitCode::kStopped, v1::JOB_REASON_KILLED, v1::BLAME_SYSTEM, "told to stop by somebody else; state saved"},
};

// What the failure of another rank explains.
bool IsConsequence(v1::JobReason reason) {
  return reason == v1::JOB_REASON_COLLECTIVE_FAILED || reason == v1::JOB_REASON_PEER_LOST;
}

bool IsConsequence(const v1::EngineExit& exit) {
  return exit.signal() == 0 && (exit.exit_code() == static_cast<int>(ExitCode::kCollectiveFailed) ||
                                exit.exit_code() == static_cast<int>(ExitCode::kPeerLost));
}

// Exits that our own stop explains.
bool IsStopped(const v1::EngineExit& exit) {
  return exit.signal() != 0 || exit.exit_code() == static_cast<int>(ExitCode::kStopped);
}

bool IsGood(const v1::EngineExit& exit) { return exit.signal() == 0 && exit.exit_code() == 0; }

// The engine's own sentence from its `failed` event; empty if there is none.
std::string WordsOf(const std::string& failed_json) {
  const nlohmann::json failed = nlohmann::json::parse(failed_json, nullptr, /*allow_exceptions=*/false);
  if (!failed.is_object()) return "";
  const auto message = failed.find("message");
  return message != failed.end() && message->is_string() ? Shortened(message->get<std::string>(), kMaxQuoteBytes) : "";
}

std::string LastLines(const std::string& log) {
  std::vector<std::string> lines = absl::StrSplit(log, '\n', absl::SkipWhitespace());
  if (lines.size() > kLogLines) lines.erase(lines.begin(), lines.end() - kLogLines);
  return Shortened(absl::StrJoin(lines, "\n"), kMaxQuoteBytes);
}

Cause CauseOfSignal(int signal) {
  Cause cause{v1::JOB_REASON_KILLED, v1::BLAME_SYSTEM, ""};
  if (signal == SIGKILL) {
    cause.message = "was killed (SIGKILL), perhaps by the kernel's out-of-memory killer";
  } else {
    const char* name = sigabbrev_np(signal);
    cause.message = absl::StrCat("was ended by signal ", signal, name ? absl::StrCat(" (SIG", name, ")") : "");
  }
  return cause;
}

Cause CauseOfCode(int code) {
  for (const ExitMeaning& meaning : kExitMeanings) {
    if (static_cast<int>(meaning.code) != code) continue;
    return {meaning.reason, meaning.blame, absl::StrCat("exited with code ", code, " (", meaning.words, ")")};
  }
  return {v1::JOB_REASON_INTERNAL, v1::BLAME_SYSTEM, absl::StrCat("exited with the undocumented code ", code)};
}

}  // namespace

Cause CauseOfExit(const v1::EngineExit& exit, const std::string& host) {
  Cause cause = exit.signal() != 0 ? CauseOfSignal(exit.signal()) : CauseOfCode(exit.exit_code());
  std::string sentence = absl::StrCat("rank ", exit.rank(), host.empty() ? "" : " on ", host, " ", cause.message);
  if (const std::string words = WordsOf(exit.failed_json()); !words.empty()) absl::StrAppend(&sentence, ": ", words);
  if (const std::string lines = LastLines(exit.last_log()); !lines.empty()) {
    absl::StrAppend(&sentence, "\nlast log lines:\n", lines);
  }
  cause.message = std::move(sentence);
  return cause;
}

std::optional<Cause> FailureOf(const LiveState& live) {
  const RankLive* best = nullptr;
  std::pair<bool, absl::Time> best_order;
  for (const RankLive& rank : live.ranks) {
    if (!rank.exit || IsGood(*rank.exit)) continue;
    const absl::Time time = absl::FromUnixNanos(TimeUtil::TimestampToNanoseconds(rank.exit->time()));
    if (time >= live.stop_time && IsStopped(*rank.exit)) continue;
    const std::pair<bool, absl::Time> order{IsConsequence(*rank.exit), time};
    if (best == nullptr || order < best_order) {
      best = &rank;
      best_order = order;
    }
  }
  if (best != nullptr) return CauseOfExit(*best->exit, best->status.host());
  return live.reported_failure;
}

Cause LostWorker(const LiveState& live) {
  std::string sentence = "a worker is gone";
  for (const WorkerLive& worker : live.workers) {
    if (worker.gone && !worker.done && !worker.gone_detail.empty()) {
      absl::StrAppend(&sentence, ": it ", worker.gone_detail);
    }
  }
  return {v1::JOB_REASON_WORKER_LOST, v1::BLAME_HARDWARE, sentence};
}

Cause OutcomeOf(const v1::Job& job, const LiveState& live) {
  const auto is_good = [](const RankLive& rank) { return rank.exit && IsGood(*rank.exit); };
  if (!live.ranks.empty() && std::ranges::all_of(live.ranks, is_good)) {
    return {v1::JOB_REASON_COMPLETED, v1::BLAME_UNSPECIFIED, "all steps done"};
  }
  const std::optional<Cause> failure = FailureOf(live);
  if (job.state() == v1::JOB_STATE_STOPPING) {
    const bool explained = IsConsequence(job.reason()) && failure && !IsConsequence(failure->reason);
    return explained ? *failure : Cause{job.reason(), job.blame(), job.message()};
  }
  if (failure) return *failure;
  if (AnyWorkerLost(live)) return LostWorker(live);
  return {v1::JOB_REASON_INTERNAL, v1::BLAME_SYSTEM, "the workers ended without saying how the ranks did"};
}

}  // namespace ithaca

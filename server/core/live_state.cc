#include "server/core/live_state.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "google/protobuf/util/time_util.h"

namespace ithaca {
namespace {

using nlohmann::json;

std::optional<json> ParseEvent(const EngineEventRecord& event) {
  json parsed = json::parse(event.json, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return std::nullopt;
  return parsed;
}

// A number of an event; 0 if it is absent, null or no number.
double Number(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number()) return 0;
  const double value = found->get<double>();
  return std::isfinite(value) ? value : 0;
}

int64_t Integer(const json& object, const char* key) {
  const double value = Number(object, key);
  return std::abs(value) < 9e18 ? static_cast<int64_t>(value) : 0;
}

std::string Text(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

const json& Object(const json& object, const char* key) {
  static const json* const empty = new json(json::object());
  const auto found = object.find(key);
  return found != object.end() && found->is_object() ? *found : *empty;
}

google::protobuf::Timestamp TimeOf(const json& object) {
  return google::protobuf::util::TimeUtil::MicrosecondsToTimestamp(
      static_cast<int64_t>(std::clamp(Number(object, "time"), 0.0, 2.5e11) * 1e6));
}

v1::MemoryUse MemoryOf(const json& memory) {
  v1::MemoryUse use;
  use.set_allocated_bytes(Integer(memory, "allocated"));
  use.set_reserved_bytes(Integer(memory, "reserved"));
  use.set_peak_bytes(Integer(memory, "peak"));
  use.set_host_pinned_bytes(Integer(memory, "host_pinned"));
  return use;
}

v1::StepMetrics StepOf(const json& event) {
  v1::StepMetrics step;
  step.set_step(Integer(event, "step"));
  *step.mutable_time() = TimeOf(event);
  step.set_loss(Number(event, "loss"));
  step.set_grad_norm(Number(event, "grad_norm"));
  step.set_learning_rate(Number(event, "learning_rate"));
  step.set_tokens(Integer(event, "tokens"));
  step.set_target_tokens(Integer(event, "target_tokens"));
  step.set_seconds(Number(event, "seconds"));
  step.set_tokens_per_second(Number(event, "tokens_per_second"));
  step.set_mfu(Number(event, "mfu"));
  step.set_total_steps(Integer(event, "total_steps"));
  const json& phases = Object(event, "seconds_by_phase");
  auto& seconds = *step.mutable_seconds_by_phase();
  seconds.set_data(Number(phases, "data"));
  seconds.set_forward(Number(phases, "forward"));
  seconds.set_backward(Number(phases, "backward"));
  seconds.set_exchange(Number(phases, "exchange"));
  seconds.set_reduce(Number(phases, "reduce"));
  seconds.set_optimizer(Number(phases, "optimizer"));
  *step.mutable_memory() = MemoryOf(Object(event, "memory"));
  return step;
}

v1::EvalMetrics EvalOf(const json& event) {
  v1::EvalMetrics eval;
  eval.set_step(Integer(event, "step"));
  *eval.mutable_time() = TimeOf(event);
  eval.set_loss(Number(event, "loss"));
  eval.set_target_tokens(Integer(event, "target_tokens"));
  eval.set_seconds(Number(event, "seconds"));
  return eval;
}

void ApplyStep(const v1::StepMetrics& step, LiveState& live) {
  v1::Progress& progress = live.progress;
  progress.set_step(step.step());
  if (step.total_steps() > 0) progress.set_total_steps(step.total_steps());
  progress.set_loss(step.loss());
  progress.set_grad_norm(step.grad_norm());
  progress.set_learning_rate(step.learning_rate());
  progress.set_tokens_per_second(step.tokens_per_second());
  progress.set_mfu(step.mfu());
  *progress.mutable_update_time() = step.time();
  const int64_t left = progress.total_steps() - step.step();
  // One step varies; the estimate follows a running mean of their times.
  const double seconds =
      live.mean_step_seconds > 0 ? 0.9 * live.mean_step_seconds + 0.1 * step.seconds() : step.seconds();
  live.mean_step_seconds = seconds;
  progress.set_eta_seconds(left > 0 ? seconds * static_cast<double>(left) : 0);
  live.last_step = step;
  ++live.steps_total;
  live.tokens_total += step.tokens();
  if (live.first_step == 0) live.first_step = step.step();
}

std::optional<CheckpointRecord> CheckpointOf(const AttemptKey& key, const json& event) {
  CheckpointRecord record;
  record.job_id = key.job_id;
  record.checkpoint.set_step(Integer(event, "step"));
  record.checkpoint.set_path(Text(event, "path"));
  record.checkpoint.set_size_bytes(Integer(event, "bytes"));
  *record.checkpoint.mutable_create_time() = TimeOf(event);
  record.checkpoint.set_attempt(key.number);
  const auto is_export = event.find("export");
  record.is_export = is_export != event.end() && is_export->is_boolean() && is_export->get<bool>();
  if (record.checkpoint.path().empty()) return std::nullopt;
  return record;
}

}  // namespace

LiveState NewLiveState(const std::vector<NodePlacement>& placement, absl::Time now) {
  LiveState live;
  live.opened = now;
  live.workers.resize(placement.size());
  for (const NodePlacement& node : placement) {
    for (size_t slot = 0; slot < node.slots.size(); ++slot) {
      RankLive& rank = live.ranks.emplace_back();
      rank.status.set_rank(static_cast<int>(live.ranks.size()) - 1);
      rank.status.set_host(node.node);
    }
  }
  return live;
}

std::optional<CheckpointRecord> ApplyEvent(const AttemptKey& key, const EngineEventRecord& event, LiveState& live) {
  if (event.rank < 0 || event.rank >= static_cast<int>(live.ranks.size())) return std::nullopt;
  const std::optional<json> parsed = ParseEvent(event);
  if (!parsed) return std::nullopt;
  RankLive& rank = live.ranks[event.rank];
  const std::string kind = Text(*parsed, "event");
  if (kind == "ready") {
    rank.ready = true;
    rank.status.set_phase("ready");
  } else if (kind == "listening" || kind == "plan") {
    rank.status.set_phase("loading");
  } else if (kind == "step" && event.rank == 0) {
    ApplyStep(StepOf(*parsed), live);
  } else if (kind == "eval" && event.rank == 0) {
    live.progress.set_eval_loss(Number(*parsed, "loss"));
  } else if (kind == "finished") {
    rank.status.set_phase("finished");
  } else if (kind == "failed") {
    rank.status.set_phase("failed");
  } else if (kind == "checkpoint") {
    return CheckpointOf(key, *parsed);
  }
  return std::nullopt;
}

void ApplyHeartbeat(const v1::Heartbeat& heartbeat, absl::Time now, LiveState& live) {
  if (heartbeat.rank() < 0 || heartbeat.rank() >= static_cast<int>(live.ranks.size())) return;
  RankLive& rank = live.ranks[heartbeat.rank()];
  rank.last_heard = now;
  rank.status.set_step(heartbeat.step());
  rank.status.set_phase(heartbeat.phase());
  rank.status.set_memory_bytes(heartbeat.memory().allocated_bytes());
  rank.status.set_peak_memory_bytes(std::max(rank.status.peak_memory_bytes(), heartbeat.memory().peak_bytes()));
  *rank.status.mutable_heartbeat_time() = heartbeat.time();
}

EventFile FileOf(const EngineEventRecord& event) {
  const std::optional<json> parsed = ParseEvent(event);
  if (!parsed) return EventFile::kEvents;
  const std::string kind = Text(*parsed, "event");
  return kind == "step" || kind == "eval" ? EventFile::kSteps : EventFile::kEvents;
}

bool AllReady(const LiveState& live) {
  return !live.ranks.empty() && std::ranges::all_of(live.ranks, [](const RankLive& rank) { return rank.ready; });
}

bool AllEnded(const LiveState& live) {
  return !live.workers.empty() &&
         std::ranges::all_of(live.workers, [](const WorkerLive& worker) { return worker.done || worker.gone; });
}

bool AnyWorkerLost(const LiveState& live) {
  return std::ranges::any_of(live.workers, [](const WorkerLive& worker) { return worker.gone && !worker.done; });
}

int FirstRank(const std::vector<NodePlacement>& placement, int node_index) {
  int rank = 0;
  for (int node = 0; node < node_index; ++node) rank += static_cast<int>(placement[node].slots.size());
  return rank;
}

std::optional<v1::StreamMetricsResponse> MetricsOf(const EngineEventRecord& event) {
  const std::optional<json> parsed = ParseEvent(event);
  if (!parsed) return std::nullopt;
  v1::StreamMetricsResponse response;
  const std::string kind = Text(*parsed, "event");
  if (kind == "step") {
    *response.mutable_step() = StepOf(*parsed);
  } else if (kind == "eval") {
    *response.mutable_eval() = EvalOf(*parsed);
  } else {
    return std::nullopt;
  }
  return response;
}

}  // namespace ithaca

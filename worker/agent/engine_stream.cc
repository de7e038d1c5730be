#include "worker/agent/engine_stream.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

namespace ithaca {
namespace {

using nlohmann::json;

constexpr size_t kMaxLineBytes = 1 << 20;
// What a double can carry exactly, and what a timestamp may be.
constexpr double kMaxInteger = 9007199254740992.0;
constexpr double kMaxUnixSeconds = 253402300799.0;

int64_t Integer(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number()) return 0;
  const double value = found->get<double>();
  return std::abs(value) <= kMaxInteger ? static_cast<int64_t>(value) : 0;
}

std::string Text(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

v1::Heartbeat ParseHeartbeat(int rank, const json& event) {
  v1::Heartbeat heartbeat;
  heartbeat.set_rank(rank);
  const auto time = event.find("time");
  if (time != event.end() && time->is_number()) {
    const double seconds = std::clamp(time->get<double>(), 0.0, kMaxUnixSeconds);
    heartbeat.mutable_time()->set_seconds(static_cast<int64_t>(seconds));
    heartbeat.mutable_time()->set_nanos(static_cast<int32_t>((seconds - std::floor(seconds)) * 1e9));
  }
  heartbeat.set_step(Integer(event, "step"));
  heartbeat.set_phase(Text(event, "phase"));
  const auto memory = event.find("memory");
  if (memory != event.end() && memory->is_object()) {
    heartbeat.mutable_memory()->set_allocated_bytes(Integer(*memory, "allocated"));
    heartbeat.mutable_memory()->set_reserved_bytes(Integer(*memory, "reserved"));
    heartbeat.mutable_memory()->set_peak_bytes(Integer(*memory, "peak"));
    heartbeat.mutable_memory()->set_host_pinned_bytes(Integer(*memory, "host_pinned"));
  }
  return heartbeat;
}

}  // namespace

EngineRecords EngineStream::Feed(const std::string& bytes) {
  EngineRecords records;
  size_t start = 0;
  for (size_t end; (end = bytes.find('\n', start)) != std::string::npos; start = end + 1) {
    if (skipping_) {
      skipping_ = false;
      continue;
    }
    partial_.append(bytes, start, end - start);
    TakeLine(std::exchange(partial_, ""), &records);
  }
  if (!skipping_) partial_.append(bytes, start);
  if (partial_.size() > kMaxLineBytes) {
    partial_.clear();
    skipping_ = true;
    ++records.broken_lines;
  }
  return records;
}

void EngineStream::TakeLine(const std::string& line, EngineRecords* records) {
  const json event = json::parse(line, nullptr, /*allow_exceptions=*/false);
  const std::string kind = event.is_object() ? Text(event, "event") : "";
  if (kind.empty() || line.size() > kMaxLineBytes) {
    ++records->broken_lines;
    return;
  }
  if (kind == "heartbeat") {
    records->heartbeat = ParseHeartbeat(rank_, event);
    return;
  }
  if (kind == "listening") {
    const int64_t port = Integer(event, "port");
    if (port > 0 && port < 65536) {
      records->listening.emplace();
      records->listening->set_host(Text(event, "host"));
      records->listening->set_port(static_cast<int32_t>(port));
    }
  }
  if (kind == "failed") records->failed_json = line;
  records->urgent |= kind != "step" && kind != "warning";
  records->events.push_back(line);
}

}  // namespace ithaca

#include "worker/agent/run_files.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "proto/visible_devices.h"

namespace ithaca {
namespace {

using nlohmann::json;

absl::Status WriteWhole(const std::string& path, const std::string& content) {
  const std::string temporary = path + ".tmp";
  std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
  file << content;
  file.close();
  std::error_code error;
  if (file.good()) std::filesystem::rename(temporary, path, error);
  if (!file.good() || error) return absl::UnavailableError(absl::StrCat("cannot write ", path));
  return absl::OkStatus();
}

std::string Dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

// The devices of all ranks, as CUDA_VISIBLE_DEVICES wants them. A device of the assignment is a place in the list that
// this worker inherited; without one, an index by PCI bus.
std::string DevicesOf(const v1::Assignment& assignment) {
  std::vector<v1::RankAssignment> ranks(assignment.ranks().begin(), assignment.ranks().end());
  std::sort(ranks.begin(), ranks.end(), [](const auto& a, const auto& b) { return a.local_rank() < b.local_rank(); });
  const char* list = std::getenv("CUDA_VISIBLE_DEVICES");
  const std::vector<std::string> inherited =
      list == nullptr ? std::vector<std::string>() : VisibleDevices(list, std::numeric_limits<int>::max());
  std::vector<std::string> devices;
  for (const v1::RankAssignment& rank : ranks) {
    for (const int slot : rank.devices()) {
      const bool listed = slot >= 0 && slot < static_cast<int>(inherited.size());
      const std::string device = listed ? inherited[static_cast<size_t>(slot)] : absl::StrCat(slot);
      if (std::find(devices.begin(), devices.end(), device) == devices.end()) devices.push_back(device);
    }
  }
  return absl::StrJoin(devices, ",");
}

json UnixNow() { return absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()); }

}  // namespace

absl::Status WriteRunJson(const AgentOptions& options, const std::string& run_json) {
  return WriteWhole(options.work_directory + "/run.json", run_json);
}

absl::Status WriteResult(const AgentOptions& options, const std::vector<v1::EngineExit>& exits) {
  json result = {{"job", options.job_id}, {"attempt", options.attempt}, {"engines", json::array()}};
  for (const v1::EngineExit& exit : exits) {
    result["engines"].push_back({{"rank", exit.rank()},
                                 {"pid", exit.pid()},
                                 {"exit_code", exit.exit_code()},
                                 {"signal", exit.signal()},
                                 {"last_log", exit.last_log()},
                                 {"failed_json", exit.failed_json()},
                                 {"time", exit.time().seconds()}});
  }
  return WriteWhole(options.work_directory + "/result.json", Dump(result) + "\n");
}

EngineCommand MakeEngineCommand(const AgentOptions& options, const v1::Assignment& assignment, const RankPlace& place) {
  EngineCommand command;
  command.program = options.engine;
  command.arguments = {"--config", options.work_directory + "/run.json"};
  command.log_path = place.log_path;
  std::map<std::string, std::string> environment(assignment.env().begin(), assignment.env().end());
  environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID";
  environment["CUDA_VISIBLE_DEVICES"] = DevicesOf(assignment);
  for (const v1::RankAssignment& rank : assignment.ranks()) {
    if (rank.rank() != place.rank) continue;
    environment["LOCAL_RANK"] = absl::StrCat(rank.local_rank());
    for (const auto& [name, value] : rank.env()) environment[name] = value;
  }
  environment["LOCAL_WORLD_SIZE"] = absl::StrCat(assignment.ranks_size());
  environment["RANK"] = absl::StrCat(place.rank);
  environment["WORLD_SIZE"] = absl::StrCat(assignment.world_size());
  environment["MASTER_ADDR"] = place.master_address;
  environment["MASTER_PORT"] = absl::StrCat(place.master_port);
  environment["ITHACA_JOB"] = options.job_id;
  environment["ITHACA_ATTEMPT"] = absl::StrCat(options.attempt);
  command.environment.assign(environment.begin(), environment.end());
  return command;
}

std::string RendezvousAddress(const AgentOptions& options) {
  const std::string& coordinator = options.coordinator;
  const bool local = absl::StartsWith(coordinator, "unix:") || absl::StartsWith(coordinator, "127.") ||
                     absl::StartsWith(coordinator, "localhost:") || absl::StartsWith(coordinator, "[::1]:");
  return local ? "127.0.0.1" : options.host;
}

std::string BrokenLinesWarning(int rank, int64_t lines) {
  return Dump({{"event", "warning"},
               {"time", UnixNow()},
               {"rank", rank},
               {"message", absl::StrCat("dropped ", lines, " lines from the engine that were no events")}});
}

std::string StartFailure(int rank, const std::string& message) {
  return Dump({{"event", "failed"},
               {"time", UnixNow()},
               {"rank", rank},
               {"code", 70},
               {"reason", "internal"},
               {"message", message}});
}

std::string ValidUtf8(const std::string& text) { return json::parse(Dump(text)).get<std::string>(); }

}  // namespace ithaca

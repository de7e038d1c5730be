#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "ithaca/v1/worker_service.pb.h"
#include "worker/agent/engine_process.h"
#include "worker/agent/options.h"

namespace ithaca {

// What a worker writes for its engines and for whoever comes after it. Files are in its work directory.

// run.json, as the coordinator sent it.
absl::Status WriteRunJson(const AgentOptions& options, const std::string& run_json);

// result.json: how every engine ended, in one piece or not at all. Read by people, and by a coordinator that finds a
// worker gone before it could say so.
absl::Status WriteResult(const AgentOptions& options, const std::vector<v1::EngineExit>& exits);

// Where an engine finds its peers.
struct RankPlace {
  int rank = 0;
  std::string log_path;
  std::string master_address;
  int master_port = 0;  // 0: this is rank 0, and it chooses
};

// The command line and environment of one engine. CUDA_VISIBLE_DEVICES holds the devices of all the worker's ranks in
// the order of their local ranks, so that LOCAL_RANK is an index into it and peers can map each other's memory; an
// inherited list is narrowed, not replaced.
EngineCommand MakeEngineCommand(const AgentOptions& options, const v1::Assignment& assignment, const RankPlace& place);

// The address rank 0 listens on: loopback when the coordinator is on this machine, else the host's name.
std::string RendezvousAddress(const AgentOptions& options);

// A `warning` event that tells of lines that were dropped.
std::string BrokenLinesWarning(int rank, int64_t lines);

// A `failed` event for an engine that could not be started, in the engine's stead.
std::string StartFailure(int rank, const std::string& message);

// `text` with every byte that is not part of valid UTF-8 replaced, as protobuf strings need it.
std::string ValidUtf8(const std::string& text);

}  // namespace ithaca

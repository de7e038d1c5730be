#pragma once

#include <string>

#include "worker/engine/commands.h"
#include "worker/engine/events.h"
#include "worker/plan/exit_code.h"

namespace ithaca::engine {

// The command line of ithaca-engine.
struct EngineOptions {
  std::string config_path;  // run.json
  int events_fd = 1;
  int commands_fd = -1;                  // -1: none
  std::string model_directory;           // in the place of run.json's model.path; empty: that
  std::string dump_gradients_directory;  // empty: train
  bool plan_only = false;                // print the plan's table and end
};

// Throws EngineError (invalid config) with one sentence about what is wrong.
EngineOptions ParseCommandLine(int argc, char** argv);

// The whole life of one rank: read the job, join the mesh, plan, open data and weights, train. Returns how it ended.
// Throws EngineError, and what allocators throw, up to where the mesh stands; a failure after that is told as the
// `failed` event at once, before anything is unwound that could wait for other ranks, and its code is returned.
plan::ExitCode Run(const EngineOptions& options, EventSink& events, Heartbeat& heartbeat, Requests& requests);

}  // namespace ithaca::engine

// The parts of the trainer that write to and read from disk.

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/checkpoint/export.h"
#include "worker/engine/errors.h"
#include "worker/engine/trainer.h"

namespace ithaca::engine {
namespace {

NamedTensors OptimizerState(Parameters& parameters, AdamW& optimizer) {
  NamedTensors state = parameters.Views(optimizer.exp_avg(), ".exp_avg");
  const NamedTensors squares = parameters.Views(optimizer.exp_avg_sq(), ".exp_avg_sq");
  state.insert(state.end(), squares.begin(), squares.end());
  if (optimizer.master().defined()) {
    const NamedTensors masters = parameters.Views(optimizer.master(), ".master");
    state.insert(state.end(), masters.begin(), masters.end());
  }
  return state;
}

void LoadInto(const NamedTensors& targets, const SafetensorsReader& file) {
  for (const auto& [name, target] : targets) {
    if (!file.Has(name) || target.sizes() != at::IntArrayRef(file.Shape(name))) {
      throw EngineError(plan::ExitCode::kCheckpointIo,
                        file.path() + " has no " + name + " of this model's shape: it is of another model");
    }
    target.copy_(file.Load(name));
  }
}

}  // namespace

void Trainer::Save() {
  context_.heartbeat.SetPhase("checkpointing");
  last_saved_step_ = steps_done_;
  const bool writes = context_.mesh.world().rank() == 0;
  if (context_.config.checkpoint_directory.empty()) {
    if (stop_agreed_ && writes) {
      context_.events.Emit("warning", {{"message", "nothing was saved: checkpoint.directory is not set"}});
    }
    return;
  }
  if (writes) {
    timer_.Restart();
    const nlohmann::json state = {{"step", steps_done_},
                                  {"next_sequence", steps_done_ * context_.plan.global_batch},
                                  {"global_batch", context_.plan.global_batch},
                                  {"seed", context_.config.seed},
                                  {"optimizer_steps", optimizer_.steps()},
                                  {"world_size", context_.mesh.world().size()},
                                  {"sequence_ranks", context_.plan.sequence_ranks},
                                  {"threads_per_rank", at::get_num_threads()},
                                  {"sequence_length", context_.config.sequence_length}};
    const CheckpointInfo info = WriteCheckpoint(
        context_.config.checkpoint_directory, steps_done_, parameters_.Views(parameters_.flat_weights()),
        OptimizerState(parameters_, optimizer_), state, context_.config.checkpoint_keep);
    context_.events.Emit(
        "checkpoint",
        {{"step", steps_done_}, {"path", info.path}, {"bytes", info.bytes}, {"seconds", timer_.TotalSeconds()}});
  }
  context_.mesh.world().Barrier();
}

void Trainer::Resume(const std::string& checkpoint_path) {
  const Checkpoint checkpoint = ReadCheckpoint(checkpoint_path);
  LoadInto(parameters_.Views(parameters_.flat_weights()), checkpoint.model);
  LoadInto(OptimizerState(parameters_, optimizer_), checkpoint.optimizer);
  const nlohmann::json& state = checkpoint.state;
  if (state.value("global_batch", int64_t{0}) != context_.plan.global_batch) {
    throw EngineError(plan::ExitCode::kInvalidConfig, checkpoint_path + " was trained with a global batch of " +
                                                          std::to_string(state.value("global_batch", int64_t{0})) +
                                                          " sequences, the job says " +
                                                          std::to_string(context_.plan.global_batch));
  }
  steps_done_ = state.value("step", int64_t{0});
  last_saved_step_ = steps_done_;
  optimizer_.set_steps(state.value("optimizer_steps", steps_done_));
  context_.heartbeat.SetStep(steps_done_);
  if (context_.mesh.world().rank() != 0) return;
  for (const auto& [key, now] : {std::pair<const char*, int64_t>{"world_size", context_.mesh.world().size()},
                                 {"threads_per_rank", at::get_num_threads()}}) {
    if (state.value(key, now) != now) {
      context_.events.Emit("warning", {{"message", "resumed with another " + std::string(key) +
                                                       " than the checkpoint's: "
                                                       "the run goes on, but not bit for bit"}});
    }
  }
}

void Trainer::Export() {
  if (context_.config.checkpoint_directory.empty() || !context_.config.export_model) return;
  context_.heartbeat.SetPhase("exporting");
  if (context_.mesh.world().rank() == 0) {
    timer_.Restart();
    const CheckpointInfo info =
        ExportHuggingFace(context_.config.model_path, parameters_.Views(parameters_.flat_weights()),
                          context_.config.checkpoint_directory + "/export", nlohmann::json::object());
    context_.events.Emit("checkpoint", {{"step", steps_done_},
                                        {"path", info.path},
                                        {"bytes", info.bytes},
                                        {"seconds", timer_.TotalSeconds()},
                                        {"export", true}});
  }
  context_.mesh.world().Barrier();
}

}  // namespace ithaca::engine

// The parts of the trainer that write to and read from disk.

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/checkpoint/export.h"
#include "worker/engine/errors.h"
#include "worker/engine/trainer.h"

namespace ithaca::engine {
namespace {

struct StateKind {
  const char* suffix;
  at::Tensor part;
};

// In the order of a checkpoint's optimizer file.
std::vector<StateKind> OptimizerState(AdamW& optimizer) {
  std::vector<StateKind> kinds = {{".exp_avg", optimizer.exp_avg()}, {".exp_avg_sq", optimizer.exp_avg_sq()}};
  if (optimizer.master().defined()) kinds.push_back({".master", optimizer.master()});
  return kinds;
}

std::vector<TensorSpec> OptimizerSpecs(const Parameters& parameters, const std::vector<StateKind>& kinds) {
  std::vector<TensorSpec> specs;
  for (const StateKind& kind : kinds) {
    for (const ParameterSpec& spec : parameters.specs()) {
      specs.push_back({spec.name + kind.suffix, at::kFloat, spec.shape});
    }
  }
  return specs;
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

// What the run must have in common with the checkpoint it goes on from: with another value, the sequences behind the
// position in the data are others, or the arithmetic is.
nlohmann::json Identity(const TrainerContext& context) {
  return {{"global_batch", context.plan.global_batch},
          {"seed", context.config.seed},
          {"sequence_length", context.config.sequence_length},
          {"packing", context.config.packing},
          {"shuffle", context.config.shuffle},
          {"sequence_ranks", context.plan.sequence_ranks},
          {"sequences_per_epoch", context.train.sequences_per_epoch()},
          {"tokens_per_epoch", context.train.tokens_per_epoch()}};
}

// Throws when the checkpoint's `state` is of another run; keys that an older checkpoint lacks are not compared.
void CheckSameRun(const nlohmann::json& state, const nlohmann::json& identity, const std::string& path) {
  std::string differences;
  for (const auto& [key, now] : identity.items()) {
    const nlohmann::json then = state.value(key, now);
    if (then == now) continue;
    differences += (differences.empty() ? "" : "; ") + key + " was " + then.dump() + " and now is " + now.dump();
  }
  if (!differences.empty()) {
    throw EngineError(plan::ExitCode::kInvalidConfig, "the job cannot go on from " + path + ": " + differences);
  }
}

}  // namespace

void Trainer::Save() {
  context_.heartbeat.SetPhase("checkpointing");
  last_saved_step_ = steps_done_;
  if (context_.config.checkpoint_directory.empty()) {
    if (stop_agreed_ && context_.mesh.world().rank() == 0) {
      context_.events.Emit("warning", {{"message", "nothing was saved: checkpoint.directory is not set"}});
    }
    return;
  }
  timer_.Restart();
  std::optional<CheckpointWriter> writer;  // of rank 0
  const std::vector<StateKind> kinds = OptimizerState(optimizer_);
  context_.mesh.OnRankZero([&] {
    writer.emplace(context_.config.checkpoint_directory, steps_done_);
    writer->WriteModel(parameters_.Views(parameters_.flat_weights()));
    writer->BeginOptimizer(OptimizerSpecs(parameters_, kinds));
  });
  for (const StateKind& kind : kinds) {
    const at::Tensor whole = Whole(kind.part);
    context_.mesh.OnRankZero([&] { writer->AppendOptimizer(parameters_.Views(whole, kind.suffix)); });
  }
  ReleaseWhole();
  context_.mesh.OnRankZero([&] {
    nlohmann::json state = Identity(context_);
    state.update({{"step", steps_done_},
                  {"next_sequence", steps_done_ * context_.plan.global_batch},
                  {"optimizer_steps", optimizer_.steps()},
                  {"world_size", context_.mesh.world().size()},
                  {"threads_per_rank", at::get_num_threads()}});
    const CheckpointInfo info = writer->Commit(state, context_.config.checkpoint_keep);
    context_.events.Emit(
        "checkpoint",
        {{"step", steps_done_}, {"path", info.path}, {"bytes", info.bytes}, {"seconds", timer_.TotalSeconds()}});
  });
}

at::Tensor Trainer::Whole(const at::Tensor& part) {
  if (!sharded()) return part;
  at::Tensor& flat = parameters_.flat_gradients();
  Part(flat).copy_(part);
  context_.mesh.world().AllGather(flat);
  return flat;
}

void Trainer::ReleaseWhole() {
  if (sharded()) parameters_.flat_gradients().zero_();
}

void Trainer::LoadOptimizerState(const Checkpoint& checkpoint) {
  for (StateKind& kind : OptimizerState(optimizer_)) {
    at::Tensor whole = sharded() ? parameters_.flat_gradients() : kind.part;
    LoadInto(parameters_.Views(whole, kind.suffix), checkpoint.optimizer);
    if (sharded()) kind.part.copy_(Part(whole));
  }
  ReleaseWhole();
}

void Trainer::LoadState(const Checkpoint& checkpoint) {
  const NamedTensors weights = parameters_.Views(parameters_.flat_weights());
  const std::string first = weights.front().first;
  const at::ScalarType saved = checkpoint.model.Has(first) ? checkpoint.model.DType(first) : parameters_.dtype();
  if (saved == at::kFloat && parameters_.dtype() == at::kBFloat16) {
    throw EngineError(plan::ExitCode::kInvalidConfig,
                      "the job cannot go on from " + checkpoint.path +
                          ": model.dtype was float32 and now is bfloat16; float32 can go on from either");
  }
  LoadOptimizerState(checkpoint);
  if (saved == at::kBFloat16 && parameters_.dtype() == at::kFloat) {
    // The bf16 weights are roundings of the master copy, which is what was trained.
    const NamedTensors masters = parameters_.Views(parameters_.flat_weights(), ".master");
    LoadInto(masters, checkpoint.optimizer);
  } else {
    LoadInto(weights, checkpoint.model);
  }
}

void Trainer::Resume(const std::string& checkpoint_path) {
  const Checkpoint checkpoint = ReadCheckpoint(checkpoint_path);
  const nlohmann::json& state = checkpoint.state;
  CheckSameRun(state, Identity(context_), checkpoint_path);
  LoadState(checkpoint);
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
  context_.mesh.OnRankZero([this] {
    timer_.Restart();
    const CheckpointInfo info = ExportHuggingFace(
        context_.config.model_path, parameters_.Views(parameters_.flat_weights()),
        context_.config.checkpoint_directory + "/export", nlohmann::json::parse(context_.config.rope_scaling_json));
    context_.events.Emit("checkpoint", {{"step", steps_done_},
                                        {"path", info.path},
                                        {"bytes", info.bytes},
                                        {"seconds", timer_.TotalSeconds()},
                                        {"export", true}});
  });
}

}  // namespace ithaca::engine
